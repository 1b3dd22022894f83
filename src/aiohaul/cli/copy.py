"""The commands ``aiohaul copy`` and ``aiohaul move``."""

from __future__ import annotations

import argparse
import json
import os
import posixpath
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from aiohaul.cli.bucket_options import bucket_options
from aiohaul.cli.locations import Place
from aiohaul.cli.runner import run_reported, run_with_display
from aiohaul.cli.standard_output import discard_output, write_bytes
from aiohaul.errors import (
    BucketNotFoundError,
    LocalFileError,
    NothingFoundError,
    ObjectNotFoundError,
    PlanError,
    ServiceError,
    TransferError,
)
from aiohaul.logs import run_scope
from aiohaul.progress import OnProgress, ignore
from aiohaul.report import ActionReport, TransferReport, transfer_summary
from aiohaul.s3.compact import total_size
from aiohaul.s3.copying.actions import apply_to_files
from aiohaul.s3.copying.plan import (
    Action,
    AnyDestination,
    Destination,
    Listed,
    LocalDestination,
    Source,
)
from aiohaul.s3.handler import ANY_NAME, S3Handler, transfers_of
from aiohaul.s3.journal import Journal
from aiohaul.s3.keys import directory_prefix
from aiohaul.s3.local import LocalFile, find_file, list_files
from aiohaul.s3.objects import S3Object
from aiohaul.s3.options import WriteOptions
from aiohaul.s3.selection import Conditions
from aiohaul.s3.streaming.stream import Stream
from aiohaul.session import Session
from aiohaul.tasks.definition import LOCAL, S3_TRANSFER
from aiohaul.telemetry.runs import traced_run
from aiohaul.threads import run_in_thread

_CHUNK = 1024 * 1024
_DELETE = Action(kind="delete")


def run_copy(args: argparse.Namespace) -> int:
    """Run ``aiohaul copy`` or ``aiohaul move``, and return the exit code.

    Raises:
        HaulError: the command cannot be carried out, or a copy failed.
    """
    ends = [args.destination, *args.to]
    _check(args, ends)
    if args.as_definition:
        definition = run_with_display(None, _definition(args, ends))
        sys.stdout.write(f"{json.dumps(definition, indent=2)}\n")
        return 0
    if ends[0].is_standard:
        try:
            run_with_display(None, _copy_to_standard_output(args))
        except BrokenPipeError:
            discard_output()
        return 0
    with run_scope():
        return run_reported(args, lambda on_progress, _: _copy(args, ends, on_progress or ignore))


def _check(args: argparse.Namespace, ends: Sequence[Place]) -> None:
    """Refuse what is wrong whatever the buckets contain."""
    from_input = any(each.is_standard for each in args.sources)
    to_output = any(each.is_standard for each in ends)
    if from_input and to_output:
        raise PlanError("copying - to - does nothing. Name an object or a file")
    if from_input and (len(args.sources) > 1 or args.is_move):
        raise PlanError("standard input is copied alone, and cannot be moved. Use copy - DEST")
    if to_output and (len(ends) > 1 or len(args.sources) > 1 or args.is_move or args.recursive):
        raise PlanError("standard output takes one object or file. Use copy SOURCE -")
    if from_input and (
        any(each.is_directory for each in ends) or len({_name(each) for each in ends}) > 1
    ):
        raise PlanError(
            "copying standard input needs the name of the object or file to write, the same one at"
            " each destination, such as s3://bucket/directory/name.csv"
        )
    kinds = {each.bucket is None for each in args.sources}
    if args.is_move and len(kinds) > 1:
        raise PlanError("moving needs sources that are all in S3 or all local. Move twice")
    for each in args.sources:
        if each.bucket is not None and not each.path and not args.recursive:
            raise PlanError(
                f"{each.text} is a whole bucket: add --recursive to take all of it, or name a"
                " directory"
            )
    if args.flag is not None and ("/" in args.flag or args.flag in {"", ".", ".."}):
        raise PlanError(f"--flag {args.flag!r} is not a file name. Use a name such as done.flg")


def _name(end: Place) -> str:
    return end.path.rpartition("/")[2]


async def _copy(
    args: argparse.Namespace, ends: Sequence[Place], on_progress: OnProgress
) -> TransferReport:
    """Find the sources, and copy or move them."""
    async with AsyncExitStack() as stack:
        stack.enter_context(traced_run("transfer", None))
        session = await stack.enter_async_context(Session())
        s3 = session.s3(options=bucket_options(args))
        transfers = transfers_of(s3)
        for each in ends:
            await _check_bucket(s3, each)
        sources = await _sources(args, s3, ends)
        from_input = any(isinstance(each, Stream) for each in sources)
        destinations = [_destination(args, each, as_file=from_input) for each in ends]
        journal = None
        if args.journal is not None:
            identity = await transfers.identity(destinations)
            journal = await stack.enter_async_context(Journal(args.journal, identity))
        reports = await transfers.copy_all(
            sources,
            destinations,
            action=_DELETE if args.is_move else None,
            on_progress=on_progress,
            journal=journal,
        )
        report = TransferReport(
            found=len(sources),
            size=total_size(sources),
            destinations=reports,
            seconds=max((each.seconds for each in reports), default=0.0),
        )
        if report.ok and args.is_move:
            action = await _delete(s3, sources, on_progress)
            report = TransferReport(report.found, report.size, reports, action, report.seconds)
        if not report.ok:
            raise TransferError(transfer_summary(report), report)
        if journal is not None:
            await journal.done()
    return report


async def _delete(
    s3: S3Handler, sources: Sequence[Source], on_progress: OnProgress
) -> ActionReport:
    objects = [each for each in sources if isinstance(each, S3Object)]
    if objects:
        return await s3.delete(objects, on_progress=on_progress)
    files = [each for each in sources if isinstance(each, LocalFile)]
    return await apply_to_files(files, _DELETE, on_progress)


async def _check_bucket(s3: S3Handler, end: Place) -> None:
    """Check that the bucket of a destination exists, before anything is read."""
    if end.bucket is None:
        return
    try:
        listing = s3.list(end.bucket, directory_prefix(end.path))
        async with aclosing(cast("AsyncGenerator[S3Object, None]", listing)) as found:
            async for _ in found:
                break
    except BucketNotFoundError:
        raise
    except ServiceError:
        return  # the credentials may write without listing


def _destination(args: argparse.Namespace, end: Place, *, as_file: bool) -> AnyDestination:
    directory = posixpath.dirname(end.path) if as_file else end.path
    if end.bucket is None:
        local = Path(directory or ".")
        return LocalDestination(
            directory=local,
            create=not as_file,
            flag=local / args.flag if args.flag else None,
            overwrite=not args.no_overwrite,
        )
    options = bucket_options(args)
    return Destination(
        bucket=end.bucket,
        directory=directory,
        flag=f"{directory_prefix(directory)}{args.flag}" if args.flag else None,
        options=WriteOptions(
            request_payer=options.request_payer,
            expected_bucket_owner=options.expected_bucket_owner,
        ),
        overwrite=not args.no_overwrite,
    )


async def _sources(
    args: argparse.Namespace, s3: S3Handler, ends: Sequence[Place]
) -> Sequence[Source]:
    """Find what the sources stand for.

    Raises:
        NothingFoundError: nothing is there, or nothing meets the conditions.
        ServiceError: a bucket cannot be listed.
    """
    if args.sources[0].is_standard:
        return [Stream(_name(ends[0]), _standard_input())]
    found: list[Listed] = []
    for each in args.sources:
        here = await _find(args, s3, each)
        if not here:
            raise NothingFoundError(f"nothing to copy: no file or object matches in {each.text}")
        found.extend(here)
    conditions = _conditions(args)
    selected = found if conditions is None else conditions.apply(found, datetime.now(UTC))
    if not selected:
        raise NothingFoundError(f"nothing to copy: no size and age of {len(found)} files is right")
    return selected


async def _find(args: argparse.Namespace, s3: S3Handler, place: Place) -> Sequence[Listed]:
    pattern = args.regex or ANY_NAME
    one = await _single(s3, place)
    if one is not None:
        return [one]
    if place.bucket is not None:
        return await s3.find(place.bucket, place.path, pattern, recursive=args.recursive)
    if not await run_in_thread(os.path.isdir, place.path):
        raise LocalFileError(f"copying {place.text} failed: there is no such file or directory")
    return await list_files(place.path, pattern, recursive=args.recursive)


async def _single(s3: S3Handler, place: Place) -> Listed | None:
    """Return the object or file at a location; None if the location is a directory, or nothing."""
    if place.is_directory:
        return None
    if place.bucket is None:
        path = Path(place.path)
        return None if await run_in_thread(os.path.isdir, path) else await find_file(path)
    try:
        return await s3.head(place.bucket, place.path)
    except ObjectNotFoundError:
        return None


def _conditions(args: argparse.Namespace) -> Conditions | None:
    given = {
        name: getattr(args, name)
        for name in ("size_gt", "size_lt", "age_gt", "age_lt")
        if getattr(args, name) is not None
    }
    return Conditions(**given) if given else None


async def _standard_input() -> AsyncIterator[bytes]:
    # os.read, because a buffer of Python would be locked by a thread that waits for input.
    while data := await run_in_thread(os.read, sys.stdin.fileno(), _CHUNK, abandon_on_cancel=True):
        yield data


async def _copy_to_standard_output(args: argparse.Namespace) -> None:
    (source,) = args.sources
    async with Session() as session:
        s3 = session.s3(options=bucket_options(args))
        one = await _single(s3, source)
        if one is None:
            raise NothingFoundError(f"nothing to copy: {source.text} is not an object or a file")
        if isinstance(one, S3Object):
            async with aclosing(s3.stream(one.bucket, one.key, if_match=one.etag)) as chunks:
                async for chunk in chunks:
                    await write_bytes(chunk)
            return
        await write_bytes(await run_in_thread(one.path.read_bytes, abandon_on_cancel=True))


async def _definition(args: argparse.Namespace, ends: Sequence[Place]) -> dict[str, object]:
    """Return the definition of a transfer that does the same.

    AWS: HeadObject, to find out whether a source is an object or a directory.

    Raises:
        PlanError: no definition does the same.
    """
    (source, *others) = args.sources
    if others:
        raise PlanError("a definition has one source. Use --as-definition with one SOURCE")
    if source.is_standard or ends[0].is_standard:
        raise PlanError("a definition has no standard input or output. Name a file or an object")
    async with Session() as session:
        one = await _single(session.s3(options=bucket_options(args)), source)
    payer = _bucket_json(args)
    if one is None:
        side: dict[str, object] = {"directory": source.path}
        side["fileRegex"] = args.regex.pattern if args.regex else ".*"
        side |= {"recursive": True} if args.recursive else {}
    else:
        directory, _, name = source.path.rpartition("/")
        if source.bucket is not None and not directory:
            raise PlanError(
                f"{source.text} is at the root of its bucket, and a definition takes such an object"
                " from all depths. Copy from a directory of the bucket"
            )
        local = directory or ("/" if source.path.startswith("/") else ".")
        side = {"directory": directory if source.bucket is not None else local}
        side["fileRegex"] = rf"{re.escape(name)}\Z"
    conditions = _conditions(args)
    if conditions is not None:
        given = {key: value for key, value in asdict(conditions).items() if value}
        side["conditionals"] = {
            kind: limits
            for kind in ("size", "age")
            if (
                limits := {
                    each: given[f"{kind}_{each}"]
                    for each in ("gt", "lt")
                    if f"{kind}_{each}" in given
                }
            )
        }
    if args.is_move:
        side["postCopyAction"] = {"action": "delete"}
    return {
        "type": "transfer",
        "source": _side(source, side, payer),
        "destination": [_destination_json(args, each, payer) for each in ends],
    }


def _bucket_json(args: argparse.Namespace) -> dict[str, object]:
    options = bucket_options(args)
    given = {
        "requestPayer": options.request_payer,
        "expectedBucketOwner": options.expected_bucket_owner,
    }
    return {key: value for key, value in given.items() if value is not None}


def _side(place: Place, side: dict[str, object], payer: dict[str, object]) -> dict[str, object]:
    if place.bucket is None:
        return {**side, "protocol": {"name": LOCAL}}
    return {"bucket": place.bucket, **side, **payer, "protocol": {"name": S3_TRANSFER}}


def _destination_json(
    args: argparse.Namespace, end: Place, payer: dict[str, object]
) -> dict[str, object]:
    side: dict[str, object] = {"directory": end.path}
    if end.bucket is None:
        side["createDirectoryIfNotExists"] = True
    if args.no_overwrite:
        side["overwrite"] = False
    if args.flag:
        prefix = directory_prefix(end.path) if end.bucket is not None else f"{end.path}/"
        side["flags"] = {"fullPath": f"{prefix}{args.flag}"}
    return _side(end, side, payer)
