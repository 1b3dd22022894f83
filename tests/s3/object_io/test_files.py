"""Objects that are opened as files."""

from __future__ import annotations

import io
import os
import random

import anyio
import pytest

import aiohaul
from tests.support.gateway import Gateway
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store

LINES = b"".join(b"%d,%s\n" % (number, b"x" * (number % 97)) for number in range(3000)) + b"end"


async def test_random_reads_are_those_of_a_file(s3: Store, session: aiohaul.Session) -> None:
    bucket = await s3.bucket()
    await s3.put(bucket, "a", LINES)
    expected = io.BytesIO(LINES)
    choice = random.Random(7)  # noqa: S311  # the same reads in every run
    async with await session.s3().open(bucket, "a", block_size=5000) as file:
        for _ in range(150):
            match choice.randrange(4):
                case 0:
                    where = choice.randrange(len(LINES) + 100)
                    assert await file.seek(where) == expected.seek(where)
                case 1:
                    size = choice.choice([0, 1, 50, 4999, 5000, 5001, 30_000])
                    assert await file.read(size) == expected.read(size)
                case 2:
                    assert await file.readline() == expected.readline()
                case _:
                    size = -choice.randrange(20_000)
                    assert await file.seek(size, os.SEEK_END) == expected.seek(size, os.SEEK_END)
            assert await file.tell() == expected.tell()
        assert file.details.size == len(LINES)


async def test_lines_are_those_of_anyios_files(
    s3: Store, session: aiohaul.Session, tmp_path: os.PathLike[str]
) -> None:
    bucket = await s3.bucket()
    await s3.put(bucket, "a", LINES)
    path = anyio.Path(tmp_path) / "a"
    await path.write_bytes(LINES)
    async with await anyio.open_file(path, "rb") as file:
        expected = [each async for each in file]
    async with await session.s3().open(bucket, "a", block_size=1000) as opened:
        assert [each async for each in opened] == expected
        await opened.seek(-3, os.SEEK_END)
        assert await opened.read() == b"end"
        assert await opened.seek(-1, os.SEEK_CUR) == len(LINES) - 1
    assert opened.closed


async def test_large_read_goes_in_parts(s3: Store, session: aiohaul.Session) -> None:
    bucket = await s3.bucket()
    data = os.urandom(1024) * (17 * 1024)
    await s3.put(bucket, "a", data)
    async with await session.s3().open(bucket, "a") as file:
        assert await file.read(1) == data[:1]
        assert await file.read() == data[1:]
        assert await file.read() == b""


async def test_small_reads_share_a_request(proxied: tuple[Gateway, Store]) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    await s3.put(bucket, "a", LINES)
    async with (
        aiohaul.Session(
            region=REGION, endpoint_url=s3.url, access_key_id=KEY, secret_access_key=SECRET
        ) as session,
        await session.s3().open(bucket, "a") as file,
    ):
        while await file.read(1000):
            pass
    assert gateway.count("GET .*/a") == 1


async def test_overwritten_object_is_not_mixed_with_the_new_one(
    s3: Store, session: aiohaul.Session
) -> None:
    bucket = await s3.bucket()
    await s3.put(bucket, "a", LINES)
    async with await session.s3().open(bucket, "a", block_size=100) as file:
        assert await file.read(10) == LINES[:10]
        await s3.put(bucket, "a", LINES[::-1])
        await file.seek(50_000)
        with pytest.raises((aiohaul.PreconditionFailedError, aiohaul.VerificationError)):
            await file.read(10)
        assert await file.tell() == 50_000


async def test_mistakes_are_refused(s3: Store, session: aiohaul.Session) -> None:
    bucket = await s3.bucket()
    await s3.put(bucket, "a", LINES)
    file = await session.s3().open(bucket, "a")
    with pytest.raises(aiohaul.PlanError, match="-1 is before the start"):
        await file.seek(-1)
    with pytest.raises(aiohaul.PlanError, match="whence must be 0, 1 or 2, not 3"):
        await file.seek(0, 3)
    await file.aclose()
    for call in (file.read, file.readline, file.tell):
        with pytest.raises(aiohaul.PlanError, match=r"the file is closed\. Open it again"):
            await call()
