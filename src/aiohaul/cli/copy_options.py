"""The options of ``aiohaul copy`` and ``aiohaul move``, without the imports of their work."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from fnmatch import translate
from pathlib import Path

from aiohaul.cli.bucket_options import add_bucket_options
from aiohaul.cli.locations import place

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)", re.IGNORECASE)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_UNITS = ("", "k", "m", "g", "t")

_LOCATIONS = """\
A SOURCE is s3://bucket/key, a local path, or - for standard input. s3://b/in is the object where
there is one, else the directory in/; s3://b/in/ is always the directory. A directory stands for
the files in it. A DESTINATION is a directory, s3://bucket/directory or a local path, which is
created; with - as SOURCE it is the object or file to write, and as DESTINATION - is standard
output.
"""
_COPY = """\
example:
  aiohaul copy reports s3://backup/reports --to s3://archive/2026 --recursive --flag done.flg
"""
_MOVE = """\
example:
  aiohaul move s3://inbox/in/ s3://archive/2026 --glob '*.csv' --age-gt 1h
"""


def add_copy(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands ``copy`` and ``move`` to the command line."""
    for name, text, example in (
        ("copy", "copy objects and files to one or more directories", _COPY),
        ("move", "copy, then delete the sources that every destination has", _MOVE),
    ):
        command = add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.\n\n{_LOCATIONS}",
            epilog=example,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_options(command)
        command.set_defaults(command=_copy, is_move=name == "move")


def _add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("sources", nargs="+", type=place, metavar="SOURCE", help="what to copy")
    command.add_argument("destination", type=place, metavar="DESTINATION", help="where to")
    command.add_argument(
        "--to",
        action="append",
        default=[],
        type=place,
        metavar="DESTINATION",
        help="another destination; may be repeated",
    )
    command.add_argument(
        "--recursive", action="store_true", help="copy subdirectories too, with their paths"
    )
    names = command.add_mutually_exclusive_group()
    names.add_argument(
        "--regex",
        type=regular_expression,
        help="copy only files of directories whose name matches, from its start",
    )
    names.add_argument(
        "--glob",
        type=_glob,
        dest="regex",
        metavar="PATTERN",
        help="copy only files of directories whose name matches, such as '*.csv'",
    )
    for limit, word in (("gt", "above"), ("lt", "below")):
        command.add_argument(
            f"--size-{limit}",
            type=_size,
            metavar="SIZE",
            help=f"copy only files {word} this size, such as 500, 10K or 1.5G",
        )
    for limit, word in (("gt", "older"), ("lt", "younger")):
        command.add_argument(
            f"--age-{limit}",
            type=_age,
            metavar="AGE",
            help=f"copy only files {word} than this age, such as 90s, 15m, 2h or 7d",
        )
    command.add_argument(
        "--flag",
        metavar="NAME",
        help="write an empty file of this name to each destination after all copies",
    )
    command.add_argument(
        "--no-overwrite", action="store_true", help="fail for a file that the destination has"
    )
    command.add_argument(
        "--journal",
        type=Path,
        help="record progress in this file; a rerun with it copies only what is missing",
    )
    command.add_argument("--report", type=Path, help="write the report to this file, as JSON")
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    command.add_argument("--quiet", action="store_true", help="show errors only")
    command.add_argument(
        "--as-definition",
        action="store_true",
        help="print the definition that does the same, for aiohaul run, and copy nothing",
    )
    add_bucket_options(command)


def regular_expression(text: str) -> re.Pattern[str]:
    """Compile a regex.

    Raises:
        argparse.ArgumentTypeError: the text is not a valid regex.
    """
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a valid regex: {error}") from error


def _glob(text: str) -> re.Pattern[str]:
    return re.compile(translate(text))


def _size(text: str) -> int:
    parts = _SIZE.fullmatch(text)
    if parts is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 500, 10K or 1.5G")
    return int(float(parts[1]) * 1024 ** _UNITS.index(parts[2].lower()))


def _age(text: str) -> float:
    parts = _AGE.fullmatch(text)
    if parts is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age such as 90s, 15m, 2h or 7d")
    return float(parts[1]) * _SECONDS[parts[2].lower()]


def _copy(args: argparse.Namespace) -> int:
    from aiohaul.cli.copy import run_copy  # noqa: PLC0415  # no other command needs it

    return run_copy(args)
