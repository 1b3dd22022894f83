"""Whatever is cancelled ends at once and leaves nothing: no task, connection, upload or file."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from tests.support.compute_fixtures import KEYS
from tests.support.connections import live_connections
from tests.support.definitions import local, run, source, to, transfer
from tests.support.gateway import Gateway
from tests.support.leaks import descriptors
from tests.support.quick import quicken
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store

MIB = 1024 * 1024
Proxied = tuple[Gateway, Store]


async def cancel_once(reached: asyncio.Event, awaitable: Awaitable[Any]) -> None:
    """Cancel as soon as the event comes, and see that it ends within a second."""
    task = asyncio.ensure_future(awaitable)
    waiter = asyncio.ensure_future(reached.wait())
    await asyncio.wait([task, waiter], return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    assert not task.done(), f"ended before it could be cancelled: {task}"
    task.cancel()
    async with asyncio.timeout(1):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_cancelled_copy_leaves_every_source_and_no_connection(proxied: Proxied) -> None:
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {f"src/{n}": b"x" for n in range(50)})
    held = gateway.rule(f"^COPY /{out}/25", hold=True)
    definition = transfer(source(s3, inbox, postCopyAction={"action": "delete"}), to(s3, out))
    await cancel_once(held.reached, run(definition))
    assert len(await s3.keys(inbox)) == 50
    await gateway.idle()


async def test_session_is_usable_after_a_cancelled_run(proxied: Proxied) -> None:
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {f"src/{n}": b"x" for n in range(20)})
    definition = transfer(source(s3, inbox), to(s3, out))
    async with aiohaul.Session(max_requests=2) as session:
        for turn in range(5):  # more often than there are slots
            held = gateway.rule("^COPY", hold=True, times=2)
            await cancel_once(held.reached, run(definition, session=session))
            assert held.times <= 1, turn
        gateway.rules.clear()
        report = await run(definition, session=session)
    assert report.destinations[0].objects == 20


@pytest.mark.parametrize("point", ["PUT .*partNumber=2", "POST .*uploadId="])
async def test_cancelled_upload_is_aborted(proxied: Proxied, tmp_path: Path, point: str) -> None:
    gateway, s3 = proxied
    out = await s3.bucket()
    (tmp_path / "large").write_bytes(b"x" * (17 * MIB))
    held = gateway.rule(point, hold=True)
    definition = transfer(local(tmp_path, fileRegex=".*"), to(s3, out))
    await cancel_once(held.reached, run(definition))
    assert await s3.uploads(out) == []
    assert gateway.count("DELETE .*uploadId=") == 1


@pytest.mark.parametrize("point", ["PUT .*partNumber=2", "POST .*uploadId="])
async def test_session_that_ends_aborts_the_uploads_of_its_copies(
    proxied: Proxied, tmp_path: Path, point: str
) -> None:
    """A server that is told to stop leaves its Session, and requests may still be copying."""
    gateway, s3 = proxied
    out = await s3.bucket()
    (tmp_path / "large").write_bytes(b"x" * (17 * MIB))
    held = gateway.rule(point, hold=True)
    definition = transfer(local(tmp_path, fileRegex=".*"), to(s3, out))
    async with aiohaul.Session() as session:
        task = asyncio.ensure_future(run(definition, session=session))
        await held.reached.wait()
    with pytest.raises(aiohaul.SessionError, match="the Session was closed before the copies were"):
        await task
    assert await s3.uploads(out) == []
    await gateway.idle()


async def test_session_that_ends_aborts_the_upload_of_a_move(
    proxied: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    quicken(monkeypatch.setattr)
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "large", b"x" * (3 * MIB))
    held = gateway.rule("COPY .*partNumber=2", hold=True)
    action = aiohaul.Action(kind="move", bucket=out, prefix="done/")
    async with aiohaul.Session(endpoint_url=s3.url, region=REGION, **KEYS) as session:
        found = await session.s3().find(inbox)
        task = asyncio.ensure_future(session.s3().act(found, action))
        await held.reached.wait()
    with pytest.raises(aiohaul.SessionError, match="the Session was closed before the move was"):
        await task
    assert await s3.uploads(out) == []
    assert await s3.keys(inbox) == ["large"]


async def test_session_that_ends_begins_no_copies(proxied: Proxied, tmp_path: Path) -> None:
    """Its end waits for what is undone, and takes nothing up that would not be."""
    gateway, s3 = proxied
    out = await s3.bucket()
    (tmp_path / "large").write_bytes(b"x" * (17 * MIB))
    held = gateway.rule("PUT .*partNumber=2", hold=True)
    undoing = gateway.rule("DELETE .*uploadId=", hold=True)
    definition = transfer(local(tmp_path, fileRegex=".*"), to(s3, out))
    async with asyncio.TaskGroup() as tasks:
        session = await aiohaul.Session().__aenter__()
        first = tasks.create_task(failure(run(definition, session=session)))
        await held.reached.wait()
        tasks.create_task(session.__aexit__(None, None, None))
        await undoing.reached.wait()
        second = tasks.create_task(failure(run(definition, session=session)))
        await asyncio.wait({second})
        undoing.go.set()
    assert "is being closed" in str(second.result())
    assert "closed before" in str(first.result())
    assert await s3.uploads(out) == []


async def failure(awaitable: Awaitable[Any]) -> aiohaul.SessionError:
    with pytest.raises(aiohaul.SessionError) as raised:
        await awaitable
    return raised.value


async def test_upload_that_was_being_started_when_cancelled_is_aborted(
    proxied: Proxied, tmp_path: Path
) -> None:
    gateway, s3 = proxied
    out = await s3.bucket()
    (tmp_path / "large").write_bytes(b"x" * (17 * MIB))
    held = gateway.rule(r"POST .*\?uploads", hold=True)
    task = asyncio.ensure_future(run(transfer(local(tmp_path, fileRegex=".*"), to(s3, out))))
    await held.reached.wait()
    task.cancel()
    await asyncio.sleep(0)  # the cancellation arrives before the answer does
    held.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await s3.uploads(out) == []
    assert gateway.count("DELETE .*uploadId=") == 1


async def test_cancelled_download_leaves_no_file(proxied: Proxied, tmp_path: Path) -> None:
    gateway, s3 = proxied
    inbox = await s3.bucket()
    await s3.put(inbox, "src/large", b"x" * (17 * MIB))
    held = gateway.rule("GET .*/src/large", hold=True)
    held.times = 0
    first = gateway.rule("GET .*/src/large", times=1)
    task = run(transfer(source(s3, inbox), local(tmp_path)))
    second = asyncio.Event()

    async def hold_the_second() -> None:
        await first.reached.wait()
        held.times = 1
        await held.reached.wait()
        second.set()

    watcher = asyncio.ensure_future(hold_the_second())
    await cancel_once(second, task)
    await watcher
    assert list(tmp_path.iterdir()) == []


async def test_cancelled_delete_can_be_run_again(proxied: Proxied) -> None:
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {f"src/{n}": b"x" for n in range(10)})
    held = gateway.rule(r"POST .*\?delete", hold=True, times=1)
    definition = transfer(
        source(s3, inbox, error=False, postCopyAction={"action": "delete"}), to(s3, out)
    )
    await cancel_once(held.reached, run(definition))
    assert len(await s3.keys(inbox)) == 10
    assert len(await s3.keys(out)) == 10
    await run(definition)
    assert await s3.keys(inbox) == []


async def test_cancelled_move_loses_nothing(proxied: Proxied) -> None:
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {f"src/{n}": b"x" for n in range(10)})
    held = gateway.rule(f"^COPY /{inbox}/old/5", hold=True, times=1)
    move = {"action": "move", "destination": "old/"}
    definition = transfer(source(s3, inbox, postCopyAction=move), to(s3, out))
    await cancel_once(held.reached, run(definition))
    assert len([key for key in await s3.keys(inbox) if key.startswith("src/")]) == 10
    await run(definition)
    assert await s3.keys(inbox) == [f"old/{n}" for n in range(10)]


async def test_cancelled_watch_ends_at_once(proxied: Proxied) -> None:
    _, s3 = proxied
    inbox = await s3.bucket()
    looked = asyncio.Event()
    definition = {"type": "transfer", "source": source(s3, inbox, fileWatch={"timeout": 3600})}
    await cancel_once(looked, run(definition, on_progress=lambda _: looked.set()))


async def test_cancelled_listing_ends_at_once(proxied: Proxied) -> None:
    gateway, s3 = proxied
    inbox = await s3.bucket()
    held = gateway.rule("list-type=2", hold=True)
    await cancel_once(held.reached, run({"type": "transfer", "source": source(s3, inbox)}))
    await gateway.idle()


async def test_exception_in_on_progress_ends_the_run_and_tidies_up(
    proxied: Proxied, tmp_path: Path
) -> None:
    gateway, s3 = proxied
    out = await s3.bucket()
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "large").write_bytes(b"x" * (17 * MIB))

    def fail(event: aiohaul.Event) -> None:
        if isinstance(event, aiohaul.Copied):
            raise KeyError("the application's own fault")

    with pytest.raises(KeyError, match="the application's own fault"):
        await run(transfer(local(tmp_path, fileRegex=".*"), to(s3, out)), on_progress=fail)
    assert await s3.uploads(out) == []
    await gateway.idle()


async def test_server_that_does_not_answer_holds_up_no_cancellation(
    proxied: Proxied, tmp_path: Path
) -> None:
    gateway, s3 = proxied
    out = await s3.bucket()
    (tmp_path / "large").write_bytes(b"x" * (17 * MIB))
    gateway.rule("DELETE .*uploadId=", hold=True)
    part = gateway.rule("PUT .*partNumber=2", hold=True)
    await cancel_once(part.reached, run(transfer(local(tmp_path, fileRegex=".*"), to(s3, out))))
    start = gateway.rule(r"POST .*\?uploads", hold=True)
    await cancel_once(start.reached, run(transfer(local(tmp_path, fileRegex=".*"), to(s3, out))))
    await gateway.idle()


def stuck(session: aiohaul.Session) -> bool:
    """True once a request cannot be written any further."""
    for connection in live_connections(session):
        exchange = connection._exchange
        if exchange is not None and exchange.sender is not None:
            return 0 < len(exchange.sender.remaining) < 32 * MIB
    return False


@pytest.mark.parametrize("direct", [True, False], ids=["directly", "by the client"])
async def test_cancelled_upload_to_a_server_that_takes_nothing_keeps_no_connection(
    direct: bool,
) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        async with aiohaul.Session(
            access_key_id=KEY,
            secret_access_key=SECRET,
            region=REGION,
            endpoint_url=url,
            direct=direct,
        ) as session:
            s3 = await session._clients.service("s3")
            upload = s3.call("put_object", "it", Bucket="bucket", Key="key", Body=bytes(32 * MIB))
            task = asyncio.ensure_future(upload)
            theirs, _ = await loop.sock_accept(server)
            with theirs:
                before = descriptors()
                await loop.sock_sendall(theirs, b"HTTP/1.1 100 Continue\r\n\r\n")
                async with asyncio.timeout(10):
                    while not stuck(session):  # noqa: ASYNC110  # the kernel has no event for it
                        await asyncio.sleep(0)
                task.cancel()
                async with asyncio.timeout(1):
                    with pytest.raises(asyncio.CancelledError):
                        await task
                    while descriptors() >= before:  # noqa: ASYNC110  # nor for that
                        await asyncio.sleep(0)
