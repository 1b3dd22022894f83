"""Interrupted transfers: what tells one from another, and what is left of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from aiohaul.errors import JournalError
from aiohaul.progress import OnProgress
from aiohaul.report import TransferReport
from aiohaul.s3.compact import size_of
from aiohaul.s3.copying.actions import act_on_files, files_left
from aiohaul.s3.copying.plan import Listed
from aiohaul.s3.handler import S3Handler
from aiohaul.s3.local import LocalFile
from aiohaul.s3.objects import S3Object
from aiohaul.s3.resuming.journal import Journal
from aiohaul.tasks.definition import TransferSource

T = TypeVar("T")

#: What of a protocol says who asks, not what for; and is nothing to write down.
_WHO = frozenset({"access_key_id", "secret_access_key", "session_token", "assume_role_external_id"})


def identity(definition: Mapping[str, Any]) -> str:
    """What tells a definition from others: all of it but the credentials."""
    return json.dumps(_without(definition), sort_keys=True)


def _without(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without(each) for key, each in value.items() if key not in _WHO}
    if isinstance(value, list):
        return [_without(each) for each in value]
    return value


def noted(sources: Sequence[Listed]) -> list[dict[str, Any]]:
    """Sources as a journal keeps them."""
    return [_noted(each) for each in sources]


def _noted(source: Listed) -> dict[str, Any]:
    match source:
        case S3Object():
            return {
                "bucket": source.bucket,
                "key": source.key,
                "size": source.size,
                "etag": source.etag,
                "last_modified": source.last_modified.isoformat(),
                "storage_class": source.storage_class,
            }
        case LocalFile():
            return {
                "path": str(source.path),
                "size": source.size,
                "last_modified": source.last_modified.isoformat(),
                "version": list(source.version),
            }


async def finish_action(
    source: TransferSource, s3: S3Handler, journal: Journal, on_progress: OnProgress
) -> TransferReport | None:
    """Finish the post-copy action of a run that was interrupted in it.

    Everything had been copied and verified then. What is gone by now counts as done; what is
    another version by now stays.

    Returns:
        The report of that run, but for its destinations; None if no run was interrupted there.

    Raises:
        PlanError: two of the sources would move to one key.
        ServiceError: the sources cannot be listed.
        LocalFileError: they cannot be looked at.
        JournalError: the journal is damaged.
    """
    if journal.acting is None or source.action is None:
        return None
    told = journal.acting
    if source.bucket is None:
        files = _read(_file, told, journal)
        report = TransferReport(found=len(files), size=size_of(files))
        action = await act_on_files(await files_left(files), source.action, on_progress)
    else:
        objects = _read(_object, told, journal)
        report = TransferReport(found=len(objects), size=size_of(objects))
        action = await s3.act(
            await s3.left_of(objects),
            source.action,
            bucket_owner_full_control=source.bucket_owner_full_control,
            on_progress=on_progress,
            journal=journal,
        )
    gone = report.found - action.objects - len(action.failures)
    done = replace(action, objects=action.objects + gone)
    if not done.failures:
        await journal.done()
    return replace(report, action=done)


def _read(read: Callable[[Mapping[str, Any]], T], told: Any, journal: Journal) -> list[T]:
    """The sources that a journal tells of.

    Raises:
        JournalError: it is damaged.
    """
    try:
        return [read(each) for each in told]
    except (KeyError, TypeError, ValueError) as error:
        raise JournalError(
            f"the journal {journal.path} is damaged: look at what is left of the sources, and"
            " remove it to begin anew"
        ) from error


def _object(told: Mapping[str, Any]) -> S3Object:
    return S3Object(
        bucket=_of(str, told["bucket"]),
        key=_of(str, told["key"]),
        size=_of(int, told["size"]),
        etag=_of(str, told["etag"]),
        last_modified=_moment(told["last_modified"]),
        storage_class=_of(str, told["storage_class"]),
    )


def _file(told: Mapping[str, Any]) -> LocalFile:
    inode, size, changed = told["version"]
    return LocalFile(
        path=Path(_of(str, told["path"])),
        size=_of(int, told["size"]),
        last_modified=_moment(told["last_modified"]),
        version=(_of(int, inode), _of(int, size), _of(int, changed)),
    )


def _moment(told: Any) -> datetime:
    made = datetime.fromisoformat(told)
    if made.tzinfo is None:
        raise ValueError("a time without its zone")
    return made


def _of(kind: type[T], told: Any) -> T:
    if not isinstance(told, kind):
        raise TypeError(f"no {kind.__name__}")
    return told
