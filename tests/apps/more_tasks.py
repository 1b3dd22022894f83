"""More tasks for the guide's Celery application."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tasks import app

from aiohaul import Destination, Session, Stream, blocking

HERE = Path(os.environ["CELERY_FOLDER"])
MIB = 2**20


def configure(application: Any, folder: Path) -> None:
    """A broker and results of files."""
    for name in ("in", "control", "results"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    application.conf.update(
        broker_url="filesystem://",
        broker_transport_options={
            "data_folder_in": str(folder / "in"),
            "data_folder_out": str(folder / "in"),
            "control_folder": str(folder / "control"),
        },
        result_backend=(folder / "results").as_uri(),
    )


configure(app, HERE)
#: Made before the workers are forked, and entered in none of them yet.
SESSION = Session()


async def heads(session: Session, name: str) -> int:
    return (await session.s3().head("inbox", f"src/{name}")).size


@app.task
def in_a_session_of_import(name: str) -> int:
    async def main() -> int:
        async with SESSION:
            return await heads(SESSION, name)

    return asyncio.run(main())


@app.task
def in_a_session_of_its_own(name: str) -> int:
    async def main() -> int:
        async with Session() as session:
            return await heads(session, name)

    return asyncio.run(main())


@app.task
def head(name: str) -> int:
    return blocking.call(heads, name)


async def megabytes() -> AsyncIterator[bytes]:
    for _ in range(17):
        yield bytes(MIB)


async def uploads(session: Session, bucket: str) -> int:
    report = await session.s3().copy([Stream("large", megabytes())], [Destination(bucket=bucket)])
    return report.size


@app.task
def upload(bucket: str) -> int:
    return blocking.call(uploads, bucket)


if "IN_A_WORKER" in os.environ:
    assert blocking.call(heads, "small") == 1  # the loop of the process that is forked
