"""What is done to the sources once every destination has them: move, rename, delete."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from aiohaul.aws.clients import Service
from aiohaul.concurrency import work
from aiohaul.errors import HaulError, PreconditionFailedError, ServiceError
from aiohaul.progress import Acted, Failed, OnProgress
from aiohaul.report import ActionReport, Failure
from aiohaul.s3.copying import copy_server_side
from aiohaul.s3.local import LocalFile, check_directory, delete_files, move_file
from aiohaul.s3.objects import S3Object, delete_objects, list_objects
from aiohaul.s3.plan import Action


async def act_on_objects(
    s3: Service,
    objects: Sequence[S3Object],
    action: Action,
    *,
    prefix: str,
    recursive: bool,
    bucket_owner_full_control: bool,
    width: int,
    on_progress: OnProgress,
) -> ActionReport:
    """Move, rename or delete these versions of objects.

    A move is a copy, verified, and then a delete. Before anything is deleted the bucket is
    listed once more, and an object that is another version by then stays; AWS itself compares
    the ETag again when it deletes.

    Args:
        s3: the way to S3.
        objects: the versions that were copied.
        action: what to do.
        prefix: a prefix that all of them have, for the listing.
        recursive: whether some of them are below a further "/".
        bucket_owner_full_control: the ACL of moved objects.
        width: how many are moved at once.
        on_progress: told of every object.
    """
    failures: list[tuple[S3Object, HaulError]] = []
    moved: list[S3Object] = []

    async def move(each: S3Object) -> None:
        bucket, key = action.bucket or each.bucket, action.key(each.name)
        if (bucket, key) == (each.bucket, each.key):
            return  # it has that name already
        try:
            await copy_server_side(
                s3, each, bucket, key, bucket_owner_full_control=bucket_owner_full_control
            )
        except HaulError as error:
            failures.append((each, error))
        else:
            moved.append(each)

    if action.kind == "delete":
        moved.extend(objects)
    else:
        await work((partial(move, each) for each in objects), min(width, len(objects)))
    for bucket in {each.bucket for each in moved}:
        gone = [each for each in moved if each.bucket == bucket]
        failures.extend(await _delete(s3, gone, prefix=prefix, recursive=recursive))
    return _report(action, objects, failures, on_progress)


async def _delete(
    s3: Service, objects: Sequence[S3Object], *, prefix: str, recursive: bool
) -> list[tuple[S3Object, ServiceError]]:
    bucket = objects[0].bucket
    wanted = {each.key for each in objects}
    try:
        now = {
            each.key: each.etag
            async for each in list_objects(s3, bucket, prefix, recursive=recursive)
            if each.key in wanted
        }
    except ServiceError as error:
        return [(each, error) for each in objects]
    same = [each for each in objects if now.get(each.key, each.etag) == each.etag]
    changed = [each for each in objects if now.get(each.key, each.etag) != each.etag]
    return [
        *((each, _changed(each)) for each in changed),
        *(await delete_objects(s3, same)),
    ]


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
    """Move, rename or delete these versions of local files."""
    failures: list[tuple[LocalFile, HaulError]] = []
    if action.kind == "delete":
        failures.extend(await delete_files(files))
    else:
        for file in files:
            target = Path(action.key(file.name))
            try:
                await check_directory(target.parent, create=False)
                await move_file(file, target)
            except HaulError as error:
                failures.append((file, error))
    return _report(action, files, failures, on_progress)


def _report(
    action: Action,
    sources: Sequence[S3Object] | Sequence[LocalFile],
    failures: Sequence[tuple[S3Object | LocalFile, HaulError]],
    on_progress: OnProgress,
) -> ActionReport:
    failed = {source.uri for source, _ in failures}
    for source, error in failures:
        on_progress(Failed(source.uri, action.kind, error))
    for source in sources:
        if source.uri not in failed:
            on_progress(Acted(action.kind, source.uri))
    return ActionReport(
        action=action.kind,
        objects=len(sources) - len(failed),
        failures=tuple(Failure.of(source.uri, error) for source, error in failures),
    )
