"""What the application's own code raises: an error of what it is part of, and of nothing else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import aiohaul
from aiohaul.aws.errors import translated
from aiohaul.aws.http.pool import ConnectionPool
from aiohaul.progress import Event, Found, TaskEnded, WatchPolled
from aiohaul.s3.handler import transfers_of
from aiohaul.s3.local import LocalFile, stat_files
from aiohaul.s3.streaming.parts import PART_SIZE
from aiohaul.s3.streaming.writers import FileWriter
from aiohaul.user_code import user_code
from tests.support.fake_ecs import FakeEcs
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store


class Leaving(BaseException):
    """What frameworks use to get out of everything."""


#: What says that a task or a generator ends, and is no error.
ODD = [
    asyncio.CancelledError("mine"),
    GeneratorExit("mine"),
    BaseExceptionGroup("mine", [asyncio.CancelledError()]),
]


def named(error: BaseException) -> str:
    return type(error).__name__


@pytest.fixture(params=ODD, ids=named)
def odd(request: pytest.FixtureRequest) -> BaseException:
    error: BaseException = request.param
    return error


@pytest.fixture(autouse=True)
async def nobody_is_cancelled() -> AsyncIterator[None]:
    yield
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


@pytest.fixture
async def files(tmp_path: Path) -> list[LocalFile]:
    (tmp_path / "from").mkdir()
    paths = [tmp_path / "from" / name for name in "abc"]
    for path in paths:
        path.write_bytes(path.name.encode())
    return await stat_files(paths)


@pytest.fixture
def to(tmp_path: Path) -> aiohaul.LocalDestination:
    return aiohaul.LocalDestination(directory=tmp_path / "to", create=True)


def raising(error: BaseException) -> Callable[[object], None]:
    def callback(_: object) -> None:
        raise error

    return callback


class Chunks:
    """A stream that raises an error after some chunks, and has an end all the same."""

    def __init__(self, before: int, error: BaseException) -> None:
        self.left = before
        self.error = error

    def __aiter__(self) -> Chunks:
        return self

    async def __anext__(self) -> bytes:
        await asyncio.sleep(0)
        if self.left:
            self.left -= 1
            return b"x" * 5_000_000
        raise self.error


async def waits_for_what_is_cancelled() -> AsyncIterator[bytes]:
    yield b"x"
    inner = asyncio.ensure_future(asyncio.sleep(60))
    inner.cancel()
    await inner
    yield b"never"


# Streams ------------------------------------------------------------------------------------


def alone(error: pytest.ExceptionInfo[aiohaul.TransferError], files: list[LocalFile]) -> None:
    """The stream failed, and that alone."""
    (report,) = error.value.report.destinations
    assert report.objects == len(files)
    (failure,) = report.failures
    assert (failure.source, failure.kind) == ("stream bad", "StreamError")


@pytest.mark.parametrize("journal", [False, True])
async def test_stream_whose_own_task_is_cancelled_fails_alone(
    files: list[LocalFile], to: aiohaul.LocalDestination, tmp_path: Path, journal: bool
) -> None:
    bad = aiohaul.Stream("bad", waits_for_what_is_cancelled())
    async with aiohaul.Session() as session:
        with pytest.raises(aiohaul.TransferError, match="CancelledError") as failed:
            await session.s3().copy(
                [bad, *files], [to], journal=tmp_path / "journal" if journal else None
            )
    alone(failed, files)
    assert sorted(os.listdir(to.directory)) == ["a", "b", "c"]  # noqa: PTH208  # no partial file


@pytest.mark.parametrize("before", [0, 1, 5])
async def test_stream_that_raises_what_is_no_error_fails_alone(
    files: list[LocalFile], to: aiohaul.LocalDestination, odd: BaseException, before: int
) -> None:
    bad = aiohaul.Stream("bad", Chunks(before, odd))
    async with aiohaul.Session() as session:
        with pytest.raises(aiohaul.TransferError, match=named(odd)) as failed:
            await session.s3().copy([bad, *files], [to])
    alone(failed, files)
    assert sorted(os.listdir(to.directory)) == ["a", "b", "c"]  # noqa: PTH208  # no partial file


async def test_stream_with_which_a_framework_leaves_everything(
    files: list[LocalFile], to: aiohaul.LocalDestination
) -> None:
    leaving = Leaving("mine")
    async with aiohaul.Session() as session:
        stream = aiohaul.Stream("bad", Chunks(2, leaving))
        with pytest.raises(Leaving) as left:
            await session.s3().copy([stream, *files], [to])
    assert left.value is leaving
    assert not any("part" in name for name in os.listdir(to.directory))  # noqa: PTH208


async def test_stream_to_s3_whose_own_task_is_cancelled_leaves_nothing(moto_s3: Store) -> None:
    bucket = await moto_s3.bucket()
    settings = aiohaul.Settings.from_protocol(moto_s3.protocol())
    bad = aiohaul.Stream("bad", Chunks(5, asyncio.CancelledError()))
    to = aiohaul.Destination(bucket=bucket, directory="to", settings=settings)
    async with aiohaul.Session() as session:
        with pytest.raises(aiohaul.TransferError) as failed:
            await session.s3(settings).copy([bad], [to])
    alone(failed, [])
    assert await moto_s3.keys(bucket) == []
    uploads = await moto_s3.client.list_multipart_uploads(Bucket=bucket)
    assert "Uploads" not in uploads


async def test_stream_of_a_copy_that_is_cancelled_is_no_failure(
    to: aiohaul.LocalDestination,
) -> None:
    reads = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"
        reads.set()
        await asyncio.sleep(60)

    async with aiohaul.Session() as session:
        stream = aiohaul.Stream("slow", chunks())
        copy = asyncio.create_task(session.s3().copy([stream], [to]))
        await reads.wait()
        copy.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copy


@pytest.mark.parametrize("cancelled", [False, True])
async def test_stream_that_is_not_read_to_its_end_is_closed(
    to: aiohaul.LocalDestination, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    closed, writing = [], asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * PART_SIZE
        finally:
            closed.append(True)

    async def put(*_: object) -> None:
        writing.set()
        if cancelled:
            await asyncio.sleep(60)
        raise aiohaul.HaulError("the disk is full")

    monkeypatch.setattr(FileWriter, "write", put)
    async with aiohaul.Session() as session:
        copying = session.s3().copy([aiohaul.Stream("endless", chunks())], [to])
        copy = asyncio.create_task(copying)
        await writing.wait()
        if cancelled:
            copy.cancel()
        with pytest.raises((asyncio.CancelledError, aiohaul.TransferError)):
            await copy
        assert closed  # and not only when it is collected, some time later


async def test_stream_that_fails_to_close_is_copied_or_not_all_the_same(
    to: aiohaul.LocalDestination, caplog: pytest.LogCaptureFixture
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield b"x" * PART_SIZE
            yield b"x" * PART_SIZE
        finally:
            raise OSError("the source is gone")

    async with aiohaul.Session() as session:
        stream = aiohaul.Stream("odd", chunks(), size=5)
        with pytest.raises(aiohaul.TransferError, match="should have 5 bytes"):
            await session.s3().copy([stream], [to])
    assert "closing stream odd failed" in caplog.text


# Callbacks ----------------------------------------------------------------------------------


def batch(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    local = {"name": "local"}
    task = {
        "type": "transfer",
        "source": {"directory": str(folder / "from"), "fileRegex": ".*", "protocol": local},
        "destination": [{"directory": str(folder / "from"), "protocol": local}],
    }
    task["destination"][0]["rename"] = {"pattern": "$", "sub": "2"}  # type: ignore[index]
    return {"type": "batch", "tasks": [{"order_id": 1, "task_id": "one"}]}, {"one": task}


@pytest.mark.parametrize("first", [True, False], ids=["at the beginning", "of a copy"])
async def test_progress_that_raises_what_is_no_error_ends_a_copy_with_one(
    files: list[LocalFile], to: aiohaul.LocalDestination, odd: BaseException, first: bool
) -> None:
    def on_progress(event: Event) -> None:
        if isinstance(event, Found) == first:
            raise odd

    async with aiohaul.Session() as session:
        with pytest.raises(aiohaul.HaulError, match=f"on_progress raised {named(odd)}") as failed:
            await session.s3().copy(files, [to], on_progress=on_progress)
    assert failed.value.__cause__ is odd
    assert not isinstance(failed.value, aiohaul.TransferError)


async def test_callback_with_which_a_framework_leaves_everything(
    files: list[LocalFile], to: aiohaul.LocalDestination
) -> None:
    leaving = Leaving("mine")
    async with aiohaul.Session() as session:
        with pytest.raises(Leaving) as left:
            await session.s3().copy(files, [to], on_progress=raising(leaving))
    assert left.value is leaving


@pytest.mark.parametrize("kind", ["file", "stream"])
async def test_progress_that_raises_an_error_of_ours_ends_a_copy_with_that(
    files: list[LocalFile], to: aiohaul.LocalDestination, kind: str
) -> None:
    """It is no failure of the object that it was told of."""
    own = aiohaul.HaulError("mine")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"

    def on_progress(event: Event) -> None:
        if not isinstance(event, Found):
            raise own

    sources = files if kind == "file" else [aiohaul.Stream("a", chunks())]
    async with aiohaul.Session() as session:
        with pytest.raises(aiohaul.HaulError) as failed:
            await session.s3().copy(sources, [to], on_progress=on_progress)
    assert failed.value is own


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.usefixtures("files")
async def test_progress_that_raises_what_is_no_error_ends_a_batch_with_one(
    tmp_path: Path, odd: BaseException, late: bool
) -> None:
    def on_progress(event: Event) -> None:
        if not late or isinstance(event, TaskEnded):
            raise odd

    definition, tasks = batch(tmp_path)
    with pytest.raises(aiohaul.HaulError, match=f"on_progress raised {named(odd)}"):
        await aiohaul.run(definition, tasks=tasks, on_progress=on_progress)


async def test_progress_that_raises_what_is_no_error_ends_what_looks(
    moto_s3: Store, odd: BaseException
) -> None:
    bucket = await moto_s3.bucket()
    settings = aiohaul.Settings.from_protocol(moto_s3.protocol())

    def on_progress(event: Event) -> None:
        assert isinstance(event, WatchPolled)
        raise odd

    async with aiohaul.Session() as session:
        with pytest.raises(aiohaul.HaulError, match=f"on_progress raised {named(odd)}"):
            await session.s3(settings).wait_for(
                bucket, "in", "a", timeout=60, interval=0.01, on_progress=on_progress
            )


async def test_start_that_raises_what_is_no_error_stops_the_task(
    ecs: FakeEcs, ecs_session: aiohaul.Session, odd: BaseException
) -> None:
    async def on_start(_: str) -> None:
        await asyncio.sleep(0)
        raise odd

    fargate = ecs_session.fargate(interval=0.02)
    with pytest.raises(aiohaul.HaulError, match=f"on_start raised {named(odd)}"):
        await fargate.run("batch", "work", on_start=on_start, stop=False)
    assert ecs.stopped == list(ecs.tasks)


async def test_log_that_raises_what_is_no_error_stops_the_task(
    ecs: FakeEcs, ecs_session: aiohaul.Session, odd: BaseException
) -> None:
    ecs.log = ["a line"]
    fargate = ecs_session.fargate(interval=0.02)
    with pytest.raises(aiohaul.HaulError, match=f"on_log raised {named(odd)}"):
        await fargate.run("batch", "work", log_group="/ecs/work", on_log=raising(odd))
    assert ecs.stopped == list(ecs.tasks)


# Requests -----------------------------------------------------------------------------------


async def test_role_whose_renewal_is_cancelled_by_others_is_an_error(
    moto_s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fetch(_: object) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    name = "aiohaul.aws.credentials.AioAssumeRoleCredentialFetcher.fetch_credentials"
    monkeypatch.setattr(name, fetch)
    settings = aiohaul.Settings(
        access_key_id=KEY,
        secret_access_key=SECRET,
        region=REGION,
        role_arn="arn:aws:iam::012345678900:role/night",
        endpoint_url=moto_s3.url,
    )
    async with aiohaul.Session() as session:
        with pytest.raises(aiohaul.EndpointError, match=r"AssumeRole .* cancelled") as failed:
            await session.s3(settings).head("a", "b")
    assert failed.value.retryable


async def test_request_of_which_a_part_is_cancelled_is_sent_again(
    moto_s3: Store, monkeypatch: pytest.MonkeyPatch, direct_unless_told_otherwise: None
) -> None:
    """As where an application ends the executor of its loop, with what waits for it."""
    del direct_unless_told_otherwise
    bucket = await moto_s3.bucket()
    await moto_s3.put(bucket, "a", b"x")
    settings = aiohaul.Settings.from_protocol(moto_s3.protocol())
    exchange = ConnectionPool.exchange
    tries: list[str] = []

    async def cancelled_once(connections: ConnectionPool, *rest: Any, **more: Any) -> Any:
        tries.append("sent")
        if len(tries) == 1:
            raise asyncio.CancelledError
        return await exchange(connections, *rest, **more)

    monkeypatch.setattr(ConnectionPool, "exchange", cancelled_once)
    async with aiohaul.Session() as session:
        assert (await session.s3(settings).head(bucket, "a")).size == 1
    assert len(tries) == 2


async def test_cancellation_of_the_caller_is_none_of_a_request() -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        with translated("HeadObject", "s3://a/b"):
            await anyio.sleep(60)
    assert scope.cancelled_caught


# Calls --------------------------------------------------------------------------------------


async def test_sources_that_change_meanwhile_are_copied_as_they_were(
    files: list[LocalFile], to: aiohaul.LocalDestination, tmp_path: Path
) -> None:
    sources: list[Any] = list(files)
    (tmp_path / "from" / "late").write_bytes(b"x")
    more = [*await stat_files([tmp_path / "from" / "late"])]

    def on_progress(event: Event) -> None:
        if isinstance(event, Found):
            sources.extend(more)

    async with aiohaul.Session() as session:
        report = await session.s3().copy(sources, [to], on_progress=on_progress)
    assert (report.found, report.destinations[0].objects) == (3, 3)


async def test_sources_that_raise_what_is_no_error(
    to: aiohaul.LocalDestination, odd: BaseException
) -> None:
    def sources() -> Iterator[LocalFile]:
        raise odd
        yield

    async with aiohaul.Session() as session:
        with pytest.raises(aiohaul.HaulError, match=named(odd)):
            await session.s3().copy(sources(), [to])  # type: ignore[arg-type]  # as users do


async def test_cleaning_without_a_journal_is_an_error_of_ours() -> None:
    async with aiohaul.Session() as session:
        with pytest.raises(aiohaul.JournalError, match="Pass journal="):
            await transfers_of(session.s3()).clean([], None)  # type: ignore[arg-type]  # as users do


async def test_definition_that_raises_what_is_no_error(odd: BaseException) -> None:
    class Raises(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            raise odd

        def get(self, *_: Any) -> Any:
            raise odd

    with pytest.raises(aiohaul.HaulError, match=f"the definition raised {named(odd)}"):
        await aiohaul.run(Raises(type="transfer"))
    batch = {"type": "batch", "tasks": [{"order_id": 1, "task_id": "one"}]}
    with pytest.raises(aiohaul.HaulError, match=f"the definition raised {named(odd)}"):
        await aiohaul.run(batch, tasks=Raises(one={}))  # read in a thread


@pytest.mark.parametrize("ends", [KeyboardInterrupt, SystemExit, ValueError])
def test_errors_and_the_end_of_the_program_pass(ends: type[BaseException]) -> None:
    with pytest.raises(ends), user_code("it"):
        raise ends


def test_code_that_is_closed_with_its_loop_ends() -> None:
    closed: list[str] = []

    async def work(wait: Callable[[], Awaitable[None]]) -> None:
        try:
            with user_code("it"):
                await wait()
        except GeneratorExit:
            closed.append("closed")
            raise

    loop = asyncio.new_event_loop()
    future = loop.create_future()

    async def wait() -> None:
        await future

    coroutine = work(wait)
    task = loop.create_task(coroutine)
    loop.call_soon(loop.stop)
    loop.run_forever()
    coroutine.close()
    assert closed == ["closed"]
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it was ended by hand
    loop.close()
