"""What other processes are given to do: importable there too."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from aiohaul import Destination, HaulError, Session, Settings, TransferReport, run


class OwnError(HaulError):
    """An application's own, made in a way of its own."""

    def __init__(self, *, job: int, step: str) -> None:
        super().__init__(f"job {job} failed at {step}")
        self.job = job
        self.step = step


class SlottedError(HaulError):
    """One whose fields are in no dictionary."""

    __slots__ = ("job",)

    def __init__(self, job: int) -> None:
        super().__init__("failed")
        self.job = job


class OwnFileError(HaulError, OSError):
    """One that is an OSError too."""


class LoadedError(HaulError):
    """One that holds what cannot be sent."""

    def __init__(self) -> None:
        super().__init__("loaded")
        self.rows = iter(lambda: b"row", b"")


def read_missing(settings: Settings, bucket: str) -> None:
    async def work() -> None:
        async with Session() as session:
            await session.s3(settings).head(bucket, "missing")

    asyncio.run(work())


def copy_to(settings: Settings, bucket: str, to: list[Destination]) -> TransferReport:
    async def work() -> TransferReport:
        async with Session() as session:
            s3 = session.s3(settings)
            return await s3.copy(await s3.find(bucket), to)

    return asyncio.run(work())


def run_wrong_definition() -> Any:
    return asyncio.run(run({"type": "transfer", "source": {"bucket": 7}}))


def raise_own() -> None:
    failure = OwnError(job=7, step="load")
    failure.add_note("of the night")
    raise failure from KeyError("row")


def pid() -> int:
    return os.getpid()
