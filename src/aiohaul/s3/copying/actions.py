"""What is done to the sources once every destination has them: move, rename, delete."""

from __future__ import annotations

import os.path
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Literal

from aiohaul.aws.service import Service
from aiohaul.concurrency import Paced, work
from aiohaul.errors import HaulError, PreconditionFailedError
from aiohaul.progress import Acted, Failed, OnProgress
from aiohaul.report import ActionReport, Failure
from aiohaul.s3.copying.course import check_plan
from aiohaul.s3.copying.plan import Action, version
from aiohaul.s3.copying.server_side import copy_server_side
from aiohaul.s3.copying.target import Target
from aiohaul.s3.listing import list_objects
from aiohaul.s3.local import LocalFile, check_directory, find_file
from aiohaul.s3.local_writing import delete_file, move_file
from aiohaul.s3.objects import S3Object, delete_objects
from aiohaul.s3.resuming.journal import Entry, Journal
from aiohaul.s3.streaming.parts import LIMITS, Limits

Guard = Literal["server", "listing"]

#: Threads that move or delete files at the same time.
_FILES_AT_ONCE = 8


async def act_on_objects(
    s3: Service,
    objects: Sequence[S3Object],
    action: Action,
    *,
    bucket_owner_full_control: bool,
    width: int,
    on_progress: OnProgress,
    limits: Limits = LIMITS,
    journal: Journal | None = None,
) -> ActionReport:
    """Move, rename or delete these versions of objects.

    A move is a copy, verified, and then a delete. Before anything is deleted the bucket is
    listed once more, and an object that is another version by then stays; AWS itself compares
    the ETag again when it deletes.

    Args:
        s3: the way to S3.
        objects: the versions that were copied.
        action: what to do.
        bucket_owner_full_control: the ACL of moved objects.
        width: how many are moved at once.
        limits: how larger objects are copied.
        journal: where the uploads of larger objects are written down.
        on_progress: told of every object.

    Raises:
        CollisionError: two of them would move to one key, or onto another of them.
        PlanError: one has a name that no key can have, or is too large to move.
    """
    await check_plan(objects, s3.endpoint, (), action)
    failures: list[tuple[S3Object, HaulError]] = []
    moved: list[S3Object] = []

    def entry(each: S3Object, bucket: str, key: str) -> Entry | None:
        if journal is None or each.size <= limits.copy:
            return None
        return journal.entry(each.uri, version(each), (s3.endpoint, bucket, key))

    async def move(each: S3Object) -> None:
        bucket, key = action.bucket or each.bucket, action.key(each.name)
        if (bucket, key) == (each.bucket, each.key):
            return  # it has that name already
        target = Target(
            s3=s3,
            bucket=bucket,
            key=key,
            bucket_owner_full_control=bucket_owner_full_control,
            entry=entry(each, bucket, key),
        )
        try:
            await copy_server_side(each, target, limits)
        except HaulError as error:
            failures.append((each, error))
        else:
            if target.entry is not None:
                target.entry.closed()
            moved.append(each)

    if action.kind == "delete":
        moved.extend(objects)
    else:
        await work((partial(move, each) for each in objects), min(width, len(objects)))
    for bucket in {each.bucket for each in moved}:
        gone = [each for each in moved if each.bucket == bucket]
        failures.extend(await _delete(s3, gone))
    guard: Guard = "server" if s3.is_aws else "listing"
    return await _report(action, objects, failures, on_progress, guard)


async def _delete(s3: Service, objects: Sequence[S3Object]) -> list[tuple[S3Object, HaulError]]:
    try:
        there = {each.key: each async for each in _look_again(s3, objects)}
    except HaulError as error:
        return [(each, error) for each in objects]
    changed: list[S3Object] = []
    unchanged: list[S3Object] = []
    async for each in Paced(objects):
        now = there.get(each.key, each)  # one that is gone counts as deleted
        (unchanged if _same(each, now) else changed).append(each)
    return [
        *((each, _changed(each)) for each in changed),
        *(await delete_objects(s3, unchanged)),
    ]


async def _look_again(s3: Service, objects: Sequence[S3Object]) -> AsyncIterator[S3Object]:
    """What is now at the keys of these objects, all of one bucket (ListObjectsV2)."""
    keys = {each.key for each in objects}
    prefix = os.path.commonprefix(list(keys))  # noqa: RUF071  # keys are no paths
    recursive = any("/" in key[len(prefix) :] for key in keys)
    listing = list_objects(s3, objects[0].bucket, prefix, recursive=recursive)
    async with aclosing(listing):
        async for each in listing:
            if each.key in keys:
                yield each


def _same(then: S3Object, now: S3Object) -> bool:
    """True for one version; the time counts: what was copied onto itself keeps its ETag."""
    return (then.etag, _second(then)) == (now.etag, _second(now))


async def objects_left(s3: Service, objects: Sequence[S3Object]) -> list[S3Object]:
    """Those of one bucket that are still there in this version (ListObjectsV2).

    Raises:
        ServiceError: or one of its kinds.
    """
    if not objects:
        return []
    there = {each.key: each async for each in _look_again(s3, objects)}
    return [each for each in objects if each.key in there and _same(each, there[each.key])]


async def files_left(files: Sequence[LocalFile]) -> list[LocalFile]:
    """Those that are still there in this version.

    Raises:
        LocalFileError: one cannot be looked at.
    """
    return [
        each
        for each in files
        if (now := await find_file(each.path)) is not None and now.version == each.version
    ]


def _second(each: S3Object) -> datetime:
    """When it was written, as exactly as a HEAD says it."""
    return each.last_modified.replace(microsecond=0)


def _changed(each: S3Object) -> PreconditionFailedError:
    return PreconditionFailedError(
        "it was overwritten after it was copied, and stays. Run again to copy the new version.",
        operation="DeleteObjects",
        target=each.uri,
        code="PreconditionFailed",
    )


async def act_on_files(
    files: Sequence[LocalFile], action: Action, on_progress: OnProgress
) -> ActionReport:
    """Move, rename or delete these versions of local files.

    Raises:
        CollisionError: two of them would move to one path, or onto another of them.
    """
    await check_plan(files, "", (), action)
    failures: list[tuple[LocalFile, HaulError]] = []

    async def act(file: LocalFile) -> None:
        try:
            if action.kind == "delete":
                await delete_file(file)
            else:
                target = Path(action.key(file.name))
                await check_directory(target.parent, create=False)
                await move_file(file, target)
        except HaulError as error:
            failures.append((file, error))

    await work((partial(act, file) for file in files), min(_FILES_AT_ONCE, len(files)))
    return await _report(action, files, failures, on_progress, "listing")


async def _report(
    action: Action,
    sources: Sequence[S3Object | LocalFile],
    failures: Sequence[tuple[S3Object | LocalFile, HaulError]],
    on_progress: OnProgress,
    guard: Guard,
) -> ActionReport:
    failed = {source.uri for source, _ in failures}
    for source, error in failures:
        on_progress(Failed(source.uri, action.kind, error))
    async for source in Paced(sources):
        if source.uri not in failed:
            on_progress(Acted(action.kind, source.uri))
    return ActionReport(
        action=action.kind,
        objects=len(sources) - len(failed),
        failures=tuple(Failure.of(source.uri, error) for source, error in failures),
        guard=guard,
    )
