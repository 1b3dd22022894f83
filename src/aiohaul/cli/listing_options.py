"""The options of ``aiohaul ls``, ``cat`` and ``rm``, without the imports of their work."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from aiohaul.cli.bucket_options import add_bucket_options
from aiohaul.cli.locations import s3_place


def add_listing(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands ``ls``, ``cat`` and ``rm`` to the command line."""
    command = add_parser(
        "ls",
        help="list the objects and subdirectories of a directory",
        epilog="example: aiohaul ls s3://inbox/in/ --recursive --json",
    )
    command.add_argument(
        "location", type=s3_place, metavar="s3://bucket/directory", help="an object or a directory"
    )
    command.add_argument("--recursive", action="store_true", help="list subdirectories too")
    command.add_argument("--json", action="store_true", help="write one line of JSON per object")
    add_bucket_options(command)
    command.set_defaults(command=_ls)
    command = add_parser(
        "cat",
        help="write the bytes of objects to standard output",
        epilog="example: aiohaul cat s3://inbox/in/today.csv | head",
    )
    command.add_argument(
        "objects", nargs="+", type=s3_place, metavar="s3://bucket/key", help="an object"
    )
    add_bucket_options(command)
    command.set_defaults(command=_cat)
    command = add_parser(
        "rm",
        help="delete objects, after a question",
        epilog="example: aiohaul rm s3://inbox/in/2025/ --recursive",
    )
    command.add_argument(
        "locations",
        nargs="+",
        type=s3_place,
        metavar="s3://bucket/key",
        help="an object, or a directory for the objects in it",
    )
    command.add_argument("--recursive", action="store_true", help="delete subdirectories too")
    command.add_argument(
        "--whole-bucket", action="store_true", help="allow s3://bucket/, for all of its objects"
    )
    command.add_argument("--yes", action="store_true", help="delete without a question")
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    add_bucket_options(command)
    command.set_defaults(command=_rm)


def _ls(args: argparse.Namespace) -> int:
    from aiohaul.cli.listing import run_ls  # noqa: PLC0415  # no other command needs it

    return run_ls(args)


def _rm(args: argparse.Namespace) -> int:
    from aiohaul.cli.rm import run_rm  # noqa: PLC0415  # no other command needs it

    return run_rm(args)


def _cat(args: argparse.Namespace) -> int:
    from aiohaul.cli.listing import run_cat  # noqa: PLC0415  # as above

    return run_cat(args)
