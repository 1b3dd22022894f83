"""Interrupted transfers: what tells one from another, and what is left of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from aiohaul.progress import OnProgress
from aiohaul.report import TransferReport
from aiohaul.s3.copying.actions import act_on_files, files_left
from aiohaul.s3.copying.plan import Listed
from aiohaul.s3.handler import S3Handler
from aiohaul.s3.local import LocalFile
from aiohaul.s3.objects import S3Object
from aiohaul.s3.resuming.journal import Journal
from aiohaul.tasks.definition import TransferSource

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
    """
    if journal.acting is None or source.action is None:
        return None
    report = TransferReport(
        found=len(journal.acting), size=sum(each["size"] for each in journal.acting)
    )
    if source.bucket is None:
        files = [_file(each) for each in journal.acting]
        action = await act_on_files(await files_left(files), source.action, on_progress)
    else:
        objects = [_object(each) for each in journal.acting]
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


def _object(told: Mapping[str, Any]) -> S3Object:
    return S3Object(
        bucket=told["bucket"],
        key=told["key"],
        size=told["size"],
        etag=told["etag"],
        last_modified=datetime.fromisoformat(told["last_modified"]),
        storage_class=told["storage_class"],
    )


def _file(told: Mapping[str, Any]) -> LocalFile:
    inode, size, changed = told["version"]
    return LocalFile(
        path=Path(told["path"]),
        size=told["size"],
        last_modified=datetime.fromisoformat(told["last_modified"]),
        version=(inode, size, changed),
    )
