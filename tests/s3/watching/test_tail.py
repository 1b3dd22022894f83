"""Waiting for a line in an object that grows."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

import aiohaul
from aiohaul import Session
from aiohaul.s3.watching.tail import Tail
from tests.support.gateway import Gateway
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store

FAST: dict[str, Any] = {"timeout": 20, "interval": 0.05}


async def test_line_in_an_object_that_grows(proxied: tuple[Gateway, Store]) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    keys: dict[str, Any] = {"access_key_id": KEY, "secret_access_key": SECRET, "region": REGION}
    looks: asyncio.Queue[int] = asyncio.Queue()

    async def read(count: int) -> None:
        """Wait for a look that has read so often."""
        async with asyncio.timeout(20):
            while await looks.get() < count:
                pass

    async with Session(endpoint_url=s3.url, **keys) as session:
        wait = asyncio.ensure_future(
            session.s3().wait_for_line(
                *(bucket, "app.log", "^done"),
                at_end=True,
                on_progress=lambda _: looks.put_nowait(gateway.count("GET")),
                **FAST,
            )
        )
        await read(0)
        text = b"not done\n" * 100
        await s3.put(bucket, "app.log", text)
        await read(1)
        await s3.put(bucket, "app.log", text + b"do")
        await read(2)
        await s3.put(bucket, "app.log", text + b"done at last\nand more\n")
        assert await wait == "done at last"
        with pytest.raises(aiohaul.WatchTimeoutError, match=r"app\.log"):
            await session.s3().wait_for_line(bucket, "app.log", "^done", at_end=True, timeout=0)
        with pytest.raises(aiohaul.WatchTimeoutError):
            await session.s3().wait_for_line(bucket, "no.log", "^done", timeout=0)


async def test_chunk_of_many_lines_gives_the_loop_its_turns() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    tail = Tail("b", "k", re.compile("nothing"))
    assert await tail._first_match(b"a line\n" * 20_000) is None
    counting.cancel()
    assert turns >= 10
