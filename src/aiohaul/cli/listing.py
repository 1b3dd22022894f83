"""The commands ``aiohaul ls`` and ``aiohaul cat``."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import aclosing

from aiohaul.cli.bucket_options import bucket_options
from aiohaul.cli.display import format_bytes
from aiohaul.cli.locations import Place
from aiohaul.cli.runner import run_with_display
from aiohaul.cli.standard_output import discard_output, write_bytes
from aiohaul.errors import NothingFoundError, ObjectNotFoundError, PlanError
from aiohaul.logs import one_line
from aiohaul.s3.handler import S3Handler
from aiohaul.s3.keys import directory_prefix
from aiohaul.s3.objects import S3Object, uri
from aiohaul.session import Session


def run_ls(args: argparse.Namespace) -> int:
    """Run ``aiohaul ls``, and return the exit code.

    Raises:
        NothingFoundError: there is no object at the location.
        ServiceError: the bucket cannot be listed.
    """
    try:
        run_with_display(None, _ls(args))
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
    return 0


def run_cat(args: argparse.Namespace) -> int:
    """Run ``aiohaul cat``, and return the exit code.

    Raises:
        ServiceError: an object cannot be read.
        PlanError: a location is a directory. Nothing was written.
    """
    for each in args.objects:
        if each.is_directory:
            raise PlanError(f"{each.text} is a directory. Name an object, or use aiohaul ls")
    try:
        run_with_display(None, _cat(args))
    except BrokenPipeError:
        discard_output()
    return 0


async def _cat(args: argparse.Namespace) -> None:
    async with Session() as session:
        s3 = session.s3(options=bucket_options(args))
        for each in args.objects:
            async with aclosing(s3.stream(each.bucket, each.path)) as chunks:
                async for chunk in chunks:
                    await write_bytes(chunk)


async def _ls(args: argparse.Namespace) -> None:
    place: Place = args.location
    bucket = place.bucket or ""
    async with Session() as session:
        s3 = session.s3(options=bucket_options(args))
        one = None if place.is_directory else await _object(s3, place)
        if one is not None:
            _show(one, as_json=args.json)
            return
        found = False
        prefix = directory_prefix(place.path)
        if args.recursive:
            async for each in s3.list(bucket, prefix):
                found = True
                _show(each, as_json=args.json)
        else:
            listing = await s3.list_directory(bucket, prefix)
            for directory in listing.directories:
                found = True
                _show_directory(uri(bucket, directory), as_json=args.json)
            for each in listing.objects:
                found = True
                _show(each, as_json=args.json)
    if not found and prefix:
        raise NothingFoundError(f"listing {place.text} failed: there is no object")


async def _object(s3: S3Handler, place: Place) -> S3Object | None:
    try:
        return await s3.head(place.bucket or "", place.path)
    except ObjectNotFoundError:
        return None


def _show(each: S3Object, *, as_json: bool) -> None:
    if as_json:
        text = json.dumps(
            {
                "uri": each.uri,
                "size": each.size,
                "etag": each.etag,
                "last_modified": each.last_modified.isoformat(),
                "storage_class": each.storage_class,
            }
        )
    else:
        modified = f"{each.last_modified:%Y-%m-%d %H:%M:%S}"
        text = f"{modified}  {format_bytes(each.size):>10}  {one_line(each.uri)}"
    sys.stdout.write(f"{text}\n")


def _show_directory(name: str, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(f"{json.dumps({'uri': name, 'directory': True})}\n")
    else:
        sys.stdout.write(f"{'':19}  {'directory':>10}  {one_line(name)}\n")
