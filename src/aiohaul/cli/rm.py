"""The command ``aiohaul rm``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from aiohaul.cli.bucket_options import bucket_options
from aiohaul.cli.display import format_bytes
from aiohaul.cli.locations import Place
from aiohaul.cli.runner import run_with_display
from aiohaul.errors import NothingFoundError, ObjectNotFoundError, PlanError
from aiohaul.logs import one_line
from aiohaul.report import ActionReport
from aiohaul.s3.compact import total_size
from aiohaul.s3.handler import S3Handler
from aiohaul.s3.objects import S3Object
from aiohaul.session import Session


def run_rm(args: argparse.Namespace) -> int:
    """Run ``aiohaul rm``, and return the exit code.

    Raises:
        PlanError: the command line asks for too much, or nobody can be asked. Nothing was deleted.
        NothingFoundError: there is no object at a location. Nothing was deleted.
        ServiceError: a bucket cannot be listed.
    """
    for each in args.locations:
        if not each.path and not args.whole_bucket:
            raise PlanError(
                f"{each.text} is a whole bucket, and nothing was deleted: add --whole-bucket to"
                " delete its objects, or name a directory"
            )
    if not args.yes and not sys.stdin.isatty():
        raise PlanError("nothing was deleted, because no terminal can be asked: add --yes")
    found = run_with_display(None, _find_all(args))
    if not args.yes and not _confirmed(found):
        sys.stderr.write("aiohaul: nothing was deleted\n")
        return 1
    report = run_with_display(None, _delete(args, found))
    if args.json:
        failures = [{"source": each.source, "error": each.error} for each in report.failures]
        done = {"ok": not failures, "objects": report.objects, "failures": failures}
        sys.stdout.write(f"{json.dumps(done, indent=2)}\n")
    else:
        sys.stdout.write(f"deleted {report.objects} objects\n")
    for failure in report.failures:
        sys.stderr.write(f"aiohaul: {one_line(failure.error)}\n")
    return 1 if report.failures else 0


def _confirmed(found: Sequence[S3Object]) -> bool:
    first = one_line(found[0].uri)
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    sys.stderr.write(f"delete {first}{more} ({format_bytes(total_size(found))})? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


async def _find_all(args: argparse.Namespace) -> list[S3Object]:
    """Find all objects before any is deleted."""
    found: dict[tuple[str, str], S3Object] = {}
    async with Session() as session:
        s3 = session.s3(options=bucket_options(args))
        for place in args.locations:
            here = await _find(s3, place, recursive=args.recursive or args.whole_bucket)
            if not here:
                raise NothingFoundError(
                    f"nothing was deleted: there is no object at {place.text}. aiohaul ls shows"
                    " what is there; --recursive includes subdirectories"
                )
            found |= {(each.bucket, each.key): each for each in here}
    return list(found.values())


async def _find(s3: S3Handler, place: Place, *, recursive: bool) -> Sequence[S3Object]:
    bucket = place.bucket or ""
    if not place.is_directory:
        try:
            return [await s3.head(bucket, place.path)]
        except ObjectNotFoundError:
            pass
    prefix = f"{place.path}/" if place.path else ""
    return [each async for each in s3.list(bucket, prefix, recursive=recursive)]


async def _delete(args: argparse.Namespace, found: Sequence[S3Object]) -> ActionReport:
    """Delete the versions that were found."""
    async with Session() as session:
        return await session.s3(options=bucket_options(args)).delete(found)
