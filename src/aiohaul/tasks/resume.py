"""Resumes a transfer that was interrupted during its post-copy action."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from aiohaul.errors import JournalError
from aiohaul.json_types import JsonValue
from aiohaul.progress import OnProgress
from aiohaul.report import TransferReport
from aiohaul.s3.compact import total_size
from aiohaul.s3.copying.actions import apply_to_files, remaining_files
from aiohaul.s3.copying.plan import Listed
from aiohaul.s3.journal import Journal
from aiohaul.s3.local import LocalFile
from aiohaul.s3.objects import S3Object
from aiohaul.s3.transfers import S3Transfers
from aiohaul.tasks.definition import TransferSource

T = TypeVar("T")

#: Keys of a protocol that do not identify the transfer, and must not be written to a file.
_CREDENTIAL_KEYS = frozenset(
    {"access_key_id", "secret_access_key", "session_token", "assume_role_external_id"}
)
#: Keys that do not change the copies. A user may add one after a run that failed without it.
_ACCESS_KEYS = frozenset(
    {"requestPayer", "expectedBucketOwner", "ignoreStorageClasses", "overwrite"}
)


def definition_identity(definition: Mapping[str, object]) -> str:
    """Return the JSON text that identifies a transfer in a journal.

    It is the definition of the transfer without credentials, and without options that do not
    change the copies.
    """
    return json.dumps(_identifying(definition), sort_keys=True)


def _identifying(value: object) -> object:
    if isinstance(value, Mapping):
        return {
            key: _identifying(each)
            for key, each in value.items()
            if key not in _CREDENTIAL_KEYS | _ACCESS_KEYS
        }
    if isinstance(value, list):
        return [_identifying(each) for each in value]
    return value


def journal_entries(sources: Sequence[Listed]) -> list[dict[str, JsonValue]]:
    """Convert sources to the JSON that a journal stores."""
    return [_journal_entry(each) for each in sources]


def _journal_entry(source: Listed) -> dict[str, JsonValue]:
    match source:
        case S3Object():
            return {
                "bucket": source.bucket,
                "key": source.key,
                "size": source.size,
                "etag": source.etag,
                "last_modified": source.last_modified.isoformat(),
                "storage_class": source.storage_class,
                "root": source.root,
            }
        case LocalFile():
            return {
                "path": str(source.path),
                "size": source.size,
                "last_modified": source.last_modified.isoformat(),
                "version": list(source.version),
                "root": None if source.root is None else str(source.root),
            }


def is_action_pending(source: TransferSource, journal: Journal) -> bool:
    """Return True if an earlier run was interrupted during its post-copy action."""
    return journal.acting is not None and source.action is not None


async def finish_action(
    source: TransferSource, transfers: S3Transfers, journal: Journal, on_progress: OnProgress
) -> TransferReport | None:
    """Finish the post-copy action of an earlier run that was interrupted during this action.

    The earlier run had copied and verified all sources. A source that no longer exists counts as
    done. A source that was changed after the earlier run is not moved, renamed or deleted.

    AWS: ListObjectsV2, then CopyObject and DeleteObjects.

    Returns:
        The report of the earlier run, without its destinations; None if no post-copy action was
        interrupted.

    Raises:
        PlanError: two of the sources would move to the same key or path.
        ServiceError: the sources cannot be listed.
        LocalFileError: the local sources cannot be read.
        JournalError: the journal is damaged.
    """
    if journal.acting is None or source.action is None:
        return None
    entries = journal.acting
    if source.bucket is None:
        files = _parse(_file, entries, journal)
        report = TransferReport(found=len(files), size=total_size(files))
        action = await apply_to_files(await remaining_files(files), source.action, on_progress)
    else:
        objects = _parse(_object, entries, journal)
        report = TransferReport(found=len(objects), size=total_size(objects))
        action = await transfers.act(
            await transfers.remaining(objects),
            source.action,
            on_progress=on_progress,
            journal=journal,
        )
    gone = report.found - action.objects - len(action.failures)
    done = replace(action, objects=action.objects + gone)
    if not done.failures:
        await journal.done()
    return replace(report, action=done)


def _parse(
    parse: Callable[[Mapping[str, JsonValue]], T],
    entries: Sequence[Mapping[str, JsonValue]],
    journal: Journal,
) -> list[T]:
    """Parse the sources that a journal stores.

    Raises:
        JournalError: an entry is damaged.
    """
    try:
        return [parse(each) for each in entries]
    except (KeyError, TypeError, ValueError) as error:
        raise JournalError(
            f"reading the sources in the journal {journal.path} failed: the journal is damaged."
            " Check which sources still exist, then remove the journal to start again"
        ) from error


def _object(entry: Mapping[str, JsonValue]) -> S3Object:
    return S3Object(
        bucket=_typed(str, entry["bucket"]),
        key=_typed(str, entry["key"]),
        size=_typed(int, entry["size"]),
        etag=_typed(str, entry["etag"]),
        last_modified=_timestamp(entry["last_modified"]),
        storage_class=_typed(str, entry["storage_class"]),
        root=_root(entry),
    )


def _file(entry: Mapping[str, JsonValue]) -> LocalFile:
    inode, size, changed = _typed(list, entry["version"])
    root = _root(entry)
    return LocalFile(
        path=Path(_typed(str, entry["path"])),
        size=_typed(int, entry["size"]),
        last_modified=_timestamp(entry["last_modified"]),
        version=(_typed(int, inode), _typed(int, size), _typed(int, changed)),
        root=None if root is None else Path(root),
    )


def _root(entry: Mapping[str, JsonValue]) -> str | None:
    root = entry.get("root")
    return None if root is None else _typed(str, root)


def _timestamp(value: object) -> datetime:
    time = datetime.fromisoformat(_typed(str, value))
    if time.tzinfo is None:
        raise ValueError("the time has no zone")
    return time


def _typed(cls: type[T], value: object) -> T:
    if not isinstance(value, cls):
        raise TypeError(f"expected {cls.__name__}")
    return value
