"""Large objects that are read chunk by chunk, ahead of who reads them."""

from __future__ import annotations

import asyncio
import gc
import os
from contextlib import aclosing
from functools import partial

import pytest

import aiohaul
from aiohaul.s3.object_io.prefetch import prefetched
from tests.support import leaks
from tests.support.gateway import Gateway
from tests.support.sessions import session_of
from tests.support.store import Store

MIB = 2**20
DATA = os.urandom(1000) * 3500
Proxied = tuple[Gateway, Store]


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, None), (0, 10), (MIB - 1, MIB + 2), (-MIB, None), (len(DATA) - 5, 99), (9 * MIB, 3)],
)
async def test_chunks_are_the_bytes_in_order(
    s3: Store, session: aiohaul.Session, offset: int, length: int | None
) -> None:
    bucket = await s3.bucket()
    await s3.put(bucket, "a", DATA)
    stream = session.s3().stream(bucket, "a", offset=offset, length=length, chunk_size=MIB // 2)
    chunks = [each async for each in stream]
    expected = DATA[offset:] if length is None else DATA[offset : offset + length]
    assert b"".join(chunks) == expected
    assert [len(each) for each in chunks[:-1]] == [MIB // 2] * (len(chunks) - 1)
    assert all(type(each) is bytes for each in chunks)


async def test_empty_object_has_no_chunks(s3: Store, session: aiohaul.Session) -> None:
    bucket = await s3.bucket()
    await s3.put(bucket, "empty")
    assert [each async for each in session.s3().stream(bucket, "empty")] == []


async def test_chunks_are_read_ahead_within_the_memory(proxied: Proxied) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    await s3.put(bucket, "a", DATA)
    async with session_of(s3.url) as session:
        stream = session.s3().stream(bucket, "a", chunk_size=MIB // 4, memory=MIB)
        async with aclosing(stream):
            await anext(stream)
            await asyncio.sleep(0.3)
            assert gateway.count("GET .*/a") == 4
            await anext(stream)
            await asyncio.sleep(0.3)
            assert gateway.count("GET .*/a") == 5
        assert leaks.held_connections(session) == []
        one = session.s3().stream(bucket, "a", chunk_size=MIB, memory=1)
        async with aclosing(one):
            assert len(await anext(one)) == MIB


async def test_broken_connections_are_resumed_not_begun_again(proxied: Proxied) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    await s3.put(bucket, "a", DATA)
    gateway.rule("GET .*/a", cut=True, times=2, after=2)
    async with session_of(s3.url) as session:
        stream = session.s3().stream(bucket, "a", chunk_size=MIB)
        assert b"".join([each async for each in stream]) == DATA
    assert gateway.count("GET .*/a") == 4 + 2


async def test_object_that_is_overwritten_meanwhile_is_an_error(
    s3: Store, session: aiohaul.Session
) -> None:
    bucket = await s3.bucket()
    await s3.put(bucket, "a", DATA)
    stream = session.s3().stream(bucket, "a", chunk_size=MIB, memory=1)
    assert await anext(stream) == DATA[:MIB]
    await s3.put(bucket, "a", bytes(len(DATA)))
    wrong = (aiohaul.PreconditionFailedError, aiohaul.VerificationError)
    with pytest.raises(wrong, match=f"s3://{bucket}/a"):
        await anext(stream)


async def test_only_the_expected_version_is_streamed(s3: Store, session: aiohaul.Session) -> None:
    bucket = await s3.bucket()
    etag = await s3.put(bucket, "a", b"old")
    stream = session.s3().stream(bucket, "a", if_match=etag)
    assert [each async for each in stream] == [b"old"]
    await s3.put(bucket, "a", b"newer")
    with pytest.raises(aiohaul.PreconditionFailedError):
        await anext(session.s3().stream(bucket, "a", if_match=etag))


async def test_damage_is_found_before_the_last_chunk(proxied: Proxied) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    await s3.put(bucket, "a", DATA, ChecksumAlgorithm="CRC32")
    gateway.rule("GET .*/a", body=bytes(MIB), times=1, after=1)
    async with session_of(s3.url) as session:
        stream = session.s3().stream(bucket, "a", chunk_size=MIB)
        for _ in range(3):
            assert len(await anext(stream)) == MIB
        with pytest.raises(aiohaul.VerificationError, match="the CRC32 of the bytes is not"):
            await anext(stream)
        part = session.s3().stream(bucket, "a", length=MIB, chunk_size=MIB)
        assert b"".join([each async for each in part]) == DATA[:MIB]


async def test_error_of_a_chunk_comes_after_the_chunks_before_it(proxied: Proxied) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    await s3.put(bucket, "a", DATA)
    gateway.rule("GET .*/a", status=403, code="AccessDenied", after=2)
    async with session_of(s3.url) as session:
        stream = session.s3().stream(bucket, "a", chunk_size=MIB, memory=1)
        assert [await anext(stream), await anext(stream)] == [DATA[:MIB], DATA[MIB : 2 * MIB]]
        with pytest.raises(aiohaul.AccessDeniedError):
            await anext(stream)
        assert leaks.held_connections(session) == []


async def test_cancelled_stream_ends_at_once_and_leaves_nothing(proxied: Proxied) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    await s3.put(bucket, "a", DATA)
    held = gateway.rule("GET .*/a", hold=True, after=1)
    async with session_of(s3.url) as session:

        async def all_of_it() -> None:
            async for _ in session.s3().stream(bucket, "a", chunk_size=MIB // 4):
                pass

        task = asyncio.create_task(all_of_it())
        await held.reached.wait()
        task.cancel()
        done, _ = await asyncio.wait((task,), timeout=1)
        assert done
        assert task.cancelled()
        assert leaks.held_connections(session) == []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await all_of_it()
        assert leaks.held_connections(session) == []


async def test_abandoned_stream_leaves_nothing(proxied: Proxied) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    await s3.put(bucket, "a", DATA)
    async with session_of(s3.url) as session:

        async def first() -> bytes:
            async for each in session.s3().stream(bucket, "a", chunk_size=MIB // 4):
                return each
            raise AssertionError

        assert DATA.startswith(await first())
        gc.collect()
        await asyncio.sleep(0.2)  # the loop closes generators that nobody has
        assert leaks.held_connections(session) == []
        before = gateway.count("GET .*/a")
        await asyncio.sleep(0.1)
        assert gateway.count("GET .*/a") == before


async def test_jobs_end_with_their_generator() -> None:
    started: list[int] = []
    ended: list[int] = []

    async def job(number: int) -> int:
        started.append(number)
        try:
            await asyncio.sleep(0 if number < 2 else 60)
        finally:
            ended.append(number)
        if number == 1:
            raise aiohaul.PlanError("no")
        return number

    jobs = [(1, partial(job, number)) for number in range(10)]
    results = prefetched(jobs, 4)
    assert await anext(results) == 0
    with pytest.raises(aiohaul.PlanError, match="no"):
        await anext(results)
    assert started == [0, 1, 2, 3, 4]
    assert sorted(ended) == started
    with pytest.raises(StopAsyncIteration):
        await anext(results)
