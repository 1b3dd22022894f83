"""The demo: everything that a transfer does, on an embedded S3 server (moto). No account needed."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
from anyio.abc import Process

from aiohaul.aws.clients import Clients
from aiohaul.cancellation import in_own_task
from aiohaul.concurrency import work
from aiohaul.errors import HaulError
from aiohaul.progress import OnProgress
from aiohaul.report import Report
from aiohaul.session import Session
from aiohaul.settings import Settings
from aiohaul.tasks.definition import S3_TRANSFER
from aiohaul.tasks.run import run

REGION = "eu-west-1"
SOURCE = "demo-inbox"
ARCHIVE = "demo-archive"
OBJECTS = 300
#: Sizes of the demo's objects in bytes, taken in turn; the largest goes in several parts.
_SIZES = (0, 100, 1_000, 10_000, 100_000)
_LARGE = 20 * 1024 * 1024
_STOP_TIMEOUT = 5.0
#: Seconds until the file arrives that the demo waits for.
_ARRIVAL = 2.0
_KEY = "demo"


@asynccontextmanager
async def moto_server() -> AsyncIterator[str]:
    """Start a moto server in a process of its own, give its URL, and stop it.

    Raises:
        ModuleNotFoundError: moto is not installed; it comes with ``aiohaul[demo]``.
        HaulError: the server did not start.
    """
    import moto.server  # noqa: F401, PLC0415  # fails here, and not in the other process

    command = [sys.executable, "-m", "aiohaul.demo"]
    process = await anyio.open_process(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{await _announced_port(process)}"
    finally:
        with anyio.move_on_after(_STOP_TIMEOUT, shield=True):
            process.kill()
            await process.aclose()


async def _announced_port(process: Process) -> int:
    if process.stdout is None:
        raise AssertionError
    told = b""
    while not told.endswith(b"\n"):
        try:
            told += await process.stdout.receive()
        except anyio.EndOfStream:
            raise HaulError("the embedded server (moto) did not start") from None
    return int(told)


def _serve() -> None:
    """Serve on a free port, tell it, and end with the process that asked."""
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415
        DomainDispatcherApplication,
        create_backend_app,
    )
    from werkzeug.serving import make_server  # noqa: PLC0415

    application = DomainDispatcherApplication(create_backend_app)

    def answer(environ: Any, start_response: Any) -> Any:
        """Leave to werkzeug what moto sends as well: a parser may refuse it twice."""

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            once = [each for each in headers if each[0].lower() not in {"date", "server"}]
            return start_response(status, once, *more)

        return application(environ, start)

    server = make_server("127.0.0.1", 0, answer, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()


def definition(endpoint_url: str, directory: Path) -> dict[str, Any]:
    """The demo's transfer: a watch, three destinations, flags, and a move at the end."""
    protocol = {
        "name": S3_TRANSFER,
        "access_key_id": _KEY,
        "secret_access_key": _KEY,
        "region_name": REGION,
        "endpoint_url": endpoint_url,
    }
    return {
        "type": "transfer",
        "source": {
            "bucket": SOURCE,
            "directory": "inbox",
            "fileRegex": r".*\.csv",
            "fileWatch": {
                "timeout": 60,
                "sleepTime": 0.5,
                "directory": "ready",
                "fileRegex": r"go\.flg",
            },
            "postCopyAction": {"action": "move", "destination": f"s3://{ARCHIVE}/done/"},
            "protocol": protocol,
        },
        "destination": [
            {
                "bucket": "demo-reports",
                "directory": "incoming",
                "flags": {"fullPath": "incoming/complete.flg"},
                "protocol": protocol,
            },
            {
                "bucket": "demo-backup",
                "transferType": "proxy",
                "rename": {"pattern": "^", "sub": "copy-of-"},
                "flags": {"fullPath": "complete.flg"},
                "protocol": protocol,
            },
            {
                "directory": str(directory),
                "protocol": {"name": "local"},
            },
        ],
    }


@in_own_task
async def run_demo(on_progress: OnProgress, *, objects: int = OBJECTS) -> Report:
    """Fill a bucket, wait for a file to arrive, haul everything to three places, move it away.

    Args:
        on_progress: told of everything that happens.
        objects: how many to haul.

    Raises:
        ModuleNotFoundError: moto is not installed; it comes with ``aiohaul[demo]``.
        HaulError: it went wrong.
    """
    with TemporaryDirectory(prefix="aiohaul-demo-") as directory:
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(moto_server())
            session = await stack.enter_async_context(
                Session(access_key_id=_KEY, secret_access_key=_KEY, region=REGION, endpoint_url=url)
            )
            await _fill(url, objects)
            return await _watched_run(session, definition(url, Path(directory)), on_progress)


async def _watched_run(
    session: Session, transfer: dict[str, Any], on_progress: OnProgress
) -> Report:
    """Run the transfer, and let the file arrive that it waits for."""
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_arrive, session)
            return await run(transfer, session=session, on_progress=on_progress)
    except* HaulError as group:
        failure = group.exceptions[0]
    raise failure


async def _fill(url: str, objects: int) -> None:
    settings = Settings(access_key_id=_KEY, secret_access_key=_KEY, region=REGION, endpoint_url=url)
    async with Clients(settings, max_requests=16) as clients:
        s3 = await clients.service("s3")
        for bucket in (SOURCE, ARCHIVE, "demo-reports", "demo-backup"):
            where = {"LocationConstraint": REGION}
            await s3.call("create_bucket", bucket, Bucket=bucket, CreateBucketConfiguration=where)

        async def put(number: int) -> None:
            size = _SIZES[number % len(_SIZES)] if number else _LARGE
            key = f"inbox/report-{number:05}.csv"
            await s3.call("put_object", key, Bucket=SOURCE, Key=key, Body=b"x" * size)

        await work((partial(put, number) for number in range(objects)), width=16)


async def _arrive(session: Session) -> None:
    """After a while, put the file that the watch waits for."""
    await anyio.sleep(_ARRIVAL)
    await session.s3().touch(SOURCE, "ready/go.flg")


if __name__ == "__main__":
    _serve()
