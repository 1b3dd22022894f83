"""The command ``aiohaul demo``, which runs a transfer on an embedded S3 server (moto).

The demo needs no AWS account.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import anyio
from anyio.abc import Process

from aiohaul.aws.clients import Clients
from aiohaul.cancellation import in_own_task
from aiohaul.concurrency import run_limited
from aiohaul.errors import HaulError
from aiohaul.progress import OnProgress
from aiohaul.report import Report
from aiohaul.session import Session
from aiohaul.settings import Settings
from aiohaul.tasks.definition import S3_TRANSFER
from aiohaul.tasks.run import run

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

REGION = "eu-west-1"
SOURCE = "demo-inbox"
ARCHIVE = "demo-archive"
OBJECTS = 300
#: The sizes of the demo's objects in bytes, repeated in this order. The large object is copied with
#: a multipart upload.
_SIZES = (0, 100, 1_000, 10_000, 100_000)
_LARGE = 20 * 1024 * 1024
_STOP_TIMEOUT = 5.0
#: Seconds after which the demo writes the file that the watch waits for.
_ARRIVAL = 2.0
_KEY = "demo"


@asynccontextmanager
async def moto_server() -> AsyncIterator[str]:
    """Run a moto server in its own process, and yield its URL.

    Raises:
        ModuleNotFoundError: moto is not installed; it comes with ``aiohaul[demo]``.
        HaulError: the server did not start.
    """
    # Raises the error in this process; in the process of the server nobody would see it.
    import moto.server  # noqa: F401, PLC0415

    command = [sys.executable, "-m", "aiohaul.cli.demo"]
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
    line = b""
    while not line.endswith(b"\n"):
        try:
            line += await process.stdout.receive()
        except anyio.EndOfStream:
            raise HaulError(
                "starting the embedded server (moto) failed: its process ended before it listened"
                " on a port. Run pip install --upgrade 'aiohaul[demo]'"
            ) from None
    return int(line)


def _serve() -> None:
    """Run the moto server on a free port, print the port, and end when standard input closes."""
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415
        DomainDispatcherApplication,
        create_backend_app,
    )
    from werkzeug.serving import make_server  # noqa: PLC0415

    application = DomainDispatcherApplication(create_backend_app)

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Remove headers that werkzeug adds again, because a parser may reject duplicates."""

        def start(
            status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
        ) -> Callable[[bytes], object]:
            once = [each for each in headers if each[0].lower() not in {"date", "server"}]
            return start_response(status, once, exc_info)

        body: Iterable[bytes] = application(environ, start)
        return body

    server = make_server("127.0.0.1", 0, answer, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()


def definition(endpoint_url: str, directory: Path) -> dict[str, object]:
    """Return the definition of the demo's transfer.

    The transfer has a watch, three destinations, flags and a post-copy action.

    Args:
        endpoint_url: the URL of the S3 server.
        directory: the local directory that is one of the destinations.
    """
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
    """Fill a bucket, wait for a file, copy all objects to three destinations, and move them.

    Args:
        on_progress: called with every event of the transfer.
        objects: the number of objects to copy.

    Returns:
        The report of the transfer.

    Raises:
        ModuleNotFoundError: moto is not installed; it comes with ``aiohaul[demo]``.
        HaulError: the transfer failed.
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
    session: Session, transfer: dict[str, object], on_progress: OnProgress
) -> Report:
    """Run the transfer, and write the file that the watch of the transfer waits for."""
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

        await run_limited((partial(put, number) for number in range(objects)), width=16)


async def _arrive(session: Session) -> None:
    """Write the file that the watch waits for, after a delay."""
    await anyio.sleep(_ARRIVAL)
    await session.s3().touch(SOURCE, "ready/go.flg")


if __name__ == "__main__":
    _serve()
