"""Moves, renames or deletes the sources of a transfer: the post-copy action."""

from __future__ import annotations

import os.path
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Literal

from aiohaul.aws.service import Service
from aiohaul.concurrency import MemoryLimiter, Paced, run_limited
from aiohaul.errors import HaulError
from aiohaul.progress import Failed, OnProgress, SourceActionDone
from aiohaul.report import ActionReport, Failure
from aiohaul.s3.bucket_service import for_bucket
from aiohaul.s3.copying.destination_state import check_names, check_plan
from aiohaul.s3.copying.plan import Action, version
from aiohaul.s3.copying.server_side import NotCopiedError, copy_server_side
from aiohaul.s3.copying.verify import compare
from aiohaul.s3.journal import Entry, Journal
from aiohaul.s3.listing import list_objects
from aiohaul.s3.local import LocalFile, check_directory, find_file, os_errors
from aiohaul.s3.local_writing import delete_file, move_file
from aiohaul.s3.objects import S3Object, delete_objects, head_object, overwritten_error
from aiohaul.s3.streaming import tee
from aiohaul.s3.streaming.parts import LIMITS, Limits
from aiohaul.s3.streaming.readers import ObjectReader
from aiohaul.s3.streaming.target import Target
from aiohaul.s3.streaming.verification import Written
from aiohaul.s3.streaming.writers import ObjectWriter
from aiohaul.storage.directories import DirectoryId, make_directories
from aiohaul.threads import run_in_thread

Guard = Literal["server", "listing"]

#: The maximum number of files that are moved or deleted concurrently, each in a thread.
_FILES_AT_ONCE = 8


async def apply_to_objects(
    s3: Service,
    objects: Sequence[S3Object],
    action: Action,
    *,
    width: int,
    on_progress: OnProgress,
    limits: Limits = LIMITS,
    journal: Journal | None = None,
) -> ActionReport:
    """Move, rename or delete these versions of objects.

    To move or rename an object, aiohaul copies the object, verifies the copy, and then deletes the
    source. Before the delete, aiohaul lists the bucket again and does not delete an object that
    was overwritten. AWS compares the ETag once more during the delete.

    AWS: CopyObject or UploadPartCopy, ListObjectsV2, DeleteObjects.

    Args:
        s3: the client of the sources.
        objects: the versions that were copied.
        action: the post-copy action.
        width: the maximum number of objects that are moved concurrently.
        limits: the maximum size in bytes for CopyObject, and the limit of memory. Larger objects
            are copied in parts.
        journal: records the uploads of objects that are copied in parts.
        on_progress: called with an event for every object.

    Returns:
        The report. Its failures list the objects that could not be moved or deleted.

    Raises:
        CollisionError: two objects would move to the same key, or one would replace another.
        PlanError: a new name is not a valid key.
    """
    await check_plan(objects, s3.endpoint, (), action)
    failures: list[tuple[S3Object, HaulError]] = []
    moved: list[S3Object] = []

    def entry(each: S3Object, bucket: str, key: str) -> Entry | None:
        if journal is None or each.size <= limits.copy:
            return None
        return journal.entry(each.uri, version(each), (s3.endpoint, bucket, key))

    async def move(each: S3Object) -> None:
        bucket, key = action.bucket or each.bucket, action.key(each.name, each.folder)
        if (bucket, key) == (each.bucket, each.key):
            return  # the object already has this key
        target = Target(
            s3=for_bucket(s3, each.bucket, bucket, action.options),
            bucket=bucket,
            key=key,
            options=action.options,
            entry=entry(each, bucket, key),
        )
        try:
            await _move_copy(s3, each, target, limits)
        except HaulError as error:
            failures.append((each, error))
        else:
            if target.entry is not None:
                target.entry.closed()
            moved.append(each)

    if action.kind == "delete":
        moved.extend(objects)
    else:
        await run_limited((partial(move, each) for each in objects), min(width, len(objects)))
    for bucket in {each.bucket for each in moved}:
        in_bucket = [each for each in moved if each.bucket == bucket]
        failures.extend(await _delete(s3, in_bucket))
    guard: Guard = "server" if s3.is_aws else "listing"
    return await _report(action, objects, failures, on_progress, guard)


async def _move_copy(s3: Service, source: S3Object, target: Target, limits: Limits) -> None:
    """Copy one object before its source is deleted.

    If only the size of the copy could be verified, all bytes are compared.
    """
    reader = ObjectReader(s3, source, with_tags=True)
    try:
        written = await copy_server_side(s3, source, target, limits)
    except NotCopiedError:
        written = await _copy_through_worker(source, reader, target, limits)
    if written.proof != "content":
        copy = await head_object(target.s3, target.bucket, target.key)
        await compare(reader, source.uri, ObjectReader(target.s3, copy), target.uri)


async def _copy_through_worker(
    source: S3Object, reader: ObjectReader, target: Target, limits: Limits
) -> Written:
    """Copy one object through this process, because the server does not copy this object."""
    copies: list[Written] = []

    async def on_written(_: int, written: Written) -> None:  # a callback
        copies.append(written)

    read = tee.Source(source.uri, reader, hash_all=not target.s3.is_tls)
    memory = MemoryLimiter(limits.memory)
    reserved = await memory.acquire(tee.initial_memory(read))
    failures = await tee.tee(read, [ObjectWriter(target)], memory, reserved, on_written)
    if failures:
        raise failures[0]
    return copies[0]


async def _delete(s3: Service, objects: Sequence[S3Object]) -> list[tuple[S3Object, HaulError]]:
    """Delete the unchanged objects of one bucket; return the others with their errors."""
    try:
        current = {each.key: each async for each in _current_versions(s3, objects)}
    except HaulError as error:
        return [(each, error) for each in objects]
    changed: list[S3Object] = []
    unchanged: list[S3Object] = []
    async for each in Paced(objects):
        now = current.get(each.key, each)  # a missing object counts as deleted
        (unchanged if _same(each, now) else changed).append(each)
    return [
        *((each, overwritten_error(each, "DeleteObjects")) for each in changed),
        *(await delete_objects(s3, unchanged)),
    ]


async def _current_versions(s3: Service, objects: Sequence[S3Object]) -> AsyncIterator[S3Object]:
    """List the current versions of these objects, all of one bucket (ListObjectsV2)."""
    keys = {each.key for each in objects}
    prefix = os.path.commonprefix(list(keys))  # noqa: RUF071  # keys are not paths
    recursive = any("/" in key[len(prefix) :] for key in keys)
    listing = list_objects(s3, objects[0].bucket, prefix, recursive=recursive)
    async with aclosing(listing):
        async for each in listing:
            if each.key in keys:
                yield each


def _same(then: S3Object, now: S3Object) -> bool:
    """Return True if both are the same version: ETag and time of the last write are equal.

    The ETag alone is not enough, because an object that is copied onto itself keeps its ETag.
    """
    return (then.etag, _second(then)) == (now.etag, _second(now))


async def remaining_objects(s3: Service, objects: Sequence[S3Object]) -> list[S3Object]:
    """Return the objects, all of one bucket, that still exist in this version (ListObjectsV2).

    Raises:
        ServiceError: the bucket cannot be listed.
    """
    if not objects:
        return []
    current = {each.key: each async for each in _current_versions(s3, objects)}
    return [each for each in objects if each.key in current and _same(each, current[each.key])]


async def remaining_files(files: Sequence[LocalFile]) -> list[LocalFile]:
    """Return the files that still exist in this version.

    Raises:
        LocalFileError: the size and time of a file cannot be read.
    """
    return [
        each
        for each in files
        if (now := await find_file(each.path)) is not None and now.version == each.version
    ]


def _second(each: S3Object) -> datetime:
    """Return the time of the last write, in whole seconds as in HeadObject."""
    return each.last_modified.replace(microsecond=0)


async def apply_to_files(
    files: Sequence[LocalFile], action: Action, on_progress: OnProgress
) -> ActionReport:
    """Move, rename or delete these versions of local files.

    Raises:
        CollisionError: two files would move to the same path, or one would replace another.
        LocalFileError: two new names may be the same file, and the new directory is not writable,
            so that aiohaul cannot find out.
    """
    await check_plan(files, "", (), action)
    if action.kind != "delete":
        names: dict[Path, list[str]] = {}
        for file in files:
            target = Path(action.key(file.name, file.folder))
            names.setdefault(target.parent, []).append(target.name)
        for parent, moved in names.items():
            if parent == Path(action.prefix) or await find_file(parent) is not None:
                await run_in_thread(check_names, parent, moved)
    failures: list[tuple[LocalFile, HaulError]] = []

    async def apply(file: LocalFile) -> None:
        try:
            if action.kind == "delete":
                await delete_file(file)
            else:
                target = Path(action.key(file.name, file.folder))
                directory = await check_directory(Path(action.prefix), create=False)
                if file.folder:
                    made = await run_in_thread(_make_folder, action, directory, file.folder)
                    directory = made[file.folder]
                else:
                    directory = await check_directory(target.parent, create=False)
                await move_file(file, target, directory)
        except HaulError as error:
            failures.append((file, error))

    await run_limited((partial(apply, file) for file in files), min(_FILES_AT_ONCE, len(files)))
    return await _report(action, files, failures, on_progress, "listing")


def _make_folder(action: Action, directory: DirectoryId, folder: str) -> dict[str, DirectoryId]:
    with os_errors("creating a subdirectory of", action.prefix):
        return make_directories(Path(action.prefix), directory, [folder])


async def _report(
    action: Action,
    sources: Sequence[S3Object | LocalFile],
    failures: Sequence[tuple[S3Object | LocalFile, HaulError]],
    on_progress: OnProgress,
    guard: Guard,
) -> ActionReport:
    """Send an event for every source, and return the report of the action."""
    failed = {source.uri for source, _ in failures}
    for source, error in failures:
        on_progress(Failed(source.uri, action.kind, error))
    async for source in Paced(sources):
        if source.uri not in failed:
            on_progress(SourceActionDone(action.kind, source.uri))
    return ActionReport(
        action=action.kind,
        objects=len(sources) - len(failed),
        failures=tuple(Failure.of(source.uri, error) for source, error in failures),
        delete_guard=guard,
    )
