"""More endpoints for the guide's application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

from anyio import from_thread
from application import app
from fastapi import Request
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse

import aiohaul
from aiohaul import Destination, LocalDestination, Session, Stream

MIB = 2**20
S3 = {"name": "opentaskpy.addons.aws.remotehandlers.s3.S3Transfer"}


def session(request: Request) -> Session:
    made: Session = request.state.session
    return made


@app.post("/copies/{name}")
async def copy(name: str, request: Request) -> int:
    s3 = session(request).s3()
    report = await s3.copy([await s3.head("inbox", f"src/{name}")], [Destination(bucket="reports")])
    return report.size


@app.post("/journals/{name}")
def with_journal(name: str, request: Request) -> int:
    s3 = session(request).s3()
    found = from_thread.run(s3.head, "inbox", f"src/{name}")
    incoming = LocalDestination(directory=Path("incoming"), create=True)
    to = incoming, Destination(bucket="reports")
    work = partial(s3.copy, [found], to, journal=Path(f"{name}.db"))
    return from_thread.run(work).size


@app.post("/nights/{name}")
def night(name: str, request: Request) -> bool:
    task: dict[str, Any] = {
        "type": "transfer",
        "source": {"bucket": "inbox", "directory": "src", "fileRegex": name, "protocol": S3},
        "destination": [{"bucket": "reports", "protocol": S3}],
    }
    batch = {"type": "batch", "tasks": [{"order_id": 1, "task_id": "copy"}]}
    work = partial(
        aiohaul.run,
        batch,
        tasks={"copy": task},
        session=session(request),
        state=Path(f"{name}.state"),
    )
    return from_thread.run(work).ok


async def megabytes(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(MIB)


@app.post("/uploads/{name}")
async def upload(name: str, request: Request) -> int:
    """In two parts."""
    sources = [Stream(name, megabytes(17))]
    return (await session(request).s3().copy(sources, [Destination(bucket="reports")])).size


@app.post("/threads/{name}")
def upload_in_a_thread(name: str, request: Request) -> int:
    return int(from_thread.run(upload, name, request))


async def background(request: Request) -> JSONResponse:
    """Starlette's own."""
    work = BackgroundTask(upload, request.path_params["name"], request)
    return JSONResponse("begun", background=work)


app.add_route("/backgrounds/{name}", background, methods=["POST"])


@app.post("/watches")
async def watch(request: Request) -> str:
    async for change in session(request).s3().watch("inbox", "new", interval=3600):
        return change.kind
    return "never"
