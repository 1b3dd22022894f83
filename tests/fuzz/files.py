"""Journals that are damaged, or that another program wrote."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio

from aiohaul.errors import HaulError, JournalError
from aiohaul.progress import ignore
from aiohaul.report import ActionReport
from aiohaul.s3.copying.plan import Action
from aiohaul.s3.journal import JOURNAL, Journal, SentPart
from aiohaul.s3.objects import S3Object
from aiohaul.storage.database import connect
from aiohaul.tasks.definition import Transfer, parse
from aiohaul.tasks.resume import finish_action
from tests.fuzz.choices import VALUES, Choices, as_json
from tests.support.samples import DEFINITIONS

_TRANSFER = "night"
_ID = sha256(_TRANSFER.encode()).hexdigest()[:16]
_TARGET = '["aws", "out", "k"]'
_SOURCES: list[dict[str, Any]] = [
    {
        "bucket": "in",
        "key": "k",
        "size": 1,
        "etag": "e",
        "last_modified": "2026-01-31T10:20:30+00:00",
        "storage_class": "STANDARD",
    }
]
#: The rows of a journal that is right.
_ROWS: dict[str, list[Any]] = {
    "run": [_ID, 1, as_json(_SOURCES)],
    "copied": [_ID, '"s3://in/k"', _TARGET, "v", "w"],
    "opened": [_ID, _TARGET, '"s3://in/k"', "v", '["u"]', "h", 5, "CRC32"],
    "part": [_ID, _TARGET, 1, "e", 5, "7"],
}


class _Transfers:
    """As far as finishing an action needs it."""

    async def remaining(self, objects: Sequence[S3Object]) -> Sequence[S3Object]:
        return objects

    async def act(self, objects: Sequence[S3Object], action: Action, **_: Any) -> ActionReport:
        return ActionReport(action.kind, len(objects), ())


def journal(data: bytes) -> None:
    choices = Choices(data)
    with tempfile.TemporaryDirectory(dir=_shared_memory()) as directory:
        path = Path(directory, "journal")
        match choices.below(3):
            case 0:
                path.write_bytes(choices.damaged(_sound()))
            case 1:
                _write(path, _changed(choices), strict=True)
            case _:
                _write(path, _changed(choices), strict=False)
        with suppress(JournalError):
            anyio.run(_use, path)


async def _use(path: Path) -> None:
    task = parse(DEFINITIONS[0])
    assert isinstance(task, Transfer)
    transfers: Any = _Transfers()
    async with Journal(path, _TRANSFER) as opened:
        await opened.begin()
        for each in opened.opened.values():
            assert isinstance(each.step, int)
            repr(each)
        for source in (task.source, replace(task.source, bucket=None, action=_UNTOUCHING)):
            with suppress(HaulError):
                await finish_action(source, transfers, opened, ignore)
        entry = opened.entry("s3://in/k", "v", ("aws", "out", "k"))
        entry.part(1, SentPart("e", 5, 7))
        entry.copied("w")
        await opened.done()


#: It moves what is not there to where nothing can be.
_UNTOUCHING = Action(kind="move", prefix="/nowhere/\0/")


@cache
def _sound() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "journal")
        _write(path, _ROWS, strict=True)
        return path.read_bytes()


def _changed(choices: Choices) -> dict[str, list[Any]]:
    made = {}
    for table, row in _ROWS.items():
        made[table] = [each if choices.below(4) else _column(choices, each) for each in row]
    if choices.below(2):
        made["run"][2] = as_json(choices.mutated(_SOURCES))
    return made


def _column(choices: Choices, value: Any) -> Any:
    if isinstance(value, str) and choices.below(2):
        return choices.damaged(value.encode()).decode("utf-8", "replace")
    other = choices.pick([each for each in VALUES if _is_storable(each)])
    return as_json(other) if choices.below(2) else other


def _is_storable(value: Any) -> bool:
    if isinstance(value, str):
        return value.isascii()
    return value is None or (isinstance(value, int | float) and abs(value) < 2**63)


def _write(path: Path, rows: dict[str, list[Any]], *, strict: bool) -> None:
    with _database(path, strict=strict) as database:
        for table, row in rows.items():
            with suppress(sqlite3.Error):
                marks = ", ".join("?" * len(row))
                database.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)  # noqa: S608


@contextmanager
def _database(path: Path, *, strict: bool) -> Iterator[sqlite3.Connection]:
    if strict:
        with closing(connect(path, JOURNAL.schema, JOURNAL.version)) as database:
            yield database
        return
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for table, row in _ROWS.items():
            columns = _COLUMNS[table]
            assert len(columns.split()) == len(row)
            database.execute(f"CREATE TABLE {table} ({', '.join(columns.split())})")
        yield database


_COLUMNS = {
    "run": "transfer acting sources",
    "copied": "transfer source target version written",
    "opened": "transfer target source version others handle step algorithm",
    "part": "transfer target number etag size crc",
}


def _shared_memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
