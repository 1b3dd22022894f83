"""The command ``aiohaul doctor``, which shows what a bucket, its store and credentials allow."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import textwrap
from dataclasses import replace
from types import TracebackType
from typing import Self

from aiohaul.cli.bucket_options import bucket_options
from aiohaul.cli.runner import cancelled_by_signals, tasks_folder
from aiohaul.doctor.examine import examine
from aiohaul.doctor.finding import Examination, Finding
from aiohaul.doctor.needs import Needs, needs_of
from aiohaul.logs import one_line
from aiohaul.s3.objects import uri
from aiohaul.session import Session
from aiohaul.settings import Settings
from aiohaul.tasks.batch_definition import is_batch, parse_any
from aiohaul.tasks.definition_source import read_definition

_STATUS_WIDTH = 8
_NAME_WIDTH = 33
#: Number of columns if standard output is not a terminal, and the minimum for a text.
_COLUMNS = 120
_FEWEST = 40
_COLOURS = {"ok": "32", "limited": "33", "failed": "31;1", "unknown": "33", "skipped": "2"}


def run_doctor(args: argparse.Namespace) -> int:
    """Run ``aiohaul doctor``, and return the exit code."""
    bucket, directory = args.place
    needs = _needs(args, bucket)
    display = FindingLines(quiet=args.json)
    with display:
        if not args.json:
            sys.stdout.write(f"{one_line(uri(bucket, directory))}\n\n")
        found = asyncio.run(
            cancelled_by_signals(_examined(args, bucket, directory, needs, display))
        )
    if args.json:
        sys.stdout.write(f"{json.dumps(found.as_dict(), indent=2)}\n")
    else:
        sys.stdout.write(f"\n{_summary(found)}\n")
    return 0 if found.ok else 1


def _needs(args: argparse.Namespace, bucket: str) -> Needs:
    """Return the permissions that the definition needs, and the settings to check them with.

    Options of the command line replace the settings of the definition.

    Raises:
        DefinitionError: the definition is wrong, or does not use the bucket.
    """
    needs = Needs()
    if args.definition is not None:
        definition = read_definition(args.definition)
        tasks = tasks_folder(args, args.definition) if is_batch(definition) else None
        needs = needs_of(parse_any(definition, tasks), bucket)
    given = Settings(role_arn=args.role, endpoint_url=args.endpoint_url, region=args.region)
    options = bucket_options(args, needs.options)
    return replace(needs, settings=given.over(needs.settings), options=options)


async def _examined(
    args: argparse.Namespace, bucket: str, directory: str, needs: Needs, display: FindingLines
) -> Examination:
    async with Session(ca_bundle=args.ca_bundle) as session:
        return await examine(
            session,
            bucket,
            directory,
            needs=needs,
            unlocked=args.unlocked,
            on_probe=display.on_probe,
            on_finding=display.on_finding,
        )


class FindingLines:
    """Prints each finding when its probe ends. On a terminal also prints the running probe.

    Args:
        quiet: True prints only that the doctor could not delete something.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._is_live = sys.stderr.isatty()
        self._has_colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._erase()

    def on_probe(self, name: str, number: int, total: int) -> None:
        """Print the name of the probe that starts now.

        Args:
            name: the name of the probe.
            number: the number of the probe, from 1.
            total: the number of probes.
        """
        if self._is_live:
            self._erase()
            sys.stderr.write(f"  running probe {number} of {total}: {name}")
            sys.stderr.flush()

    def on_finding(self, finding: Finding) -> None:
        """Print a finding."""
        self._erase()
        if not self._quiet:
            sys.stdout.write(f"{finding_text(finding, colours=self._has_colours)}\n")
            sys.stdout.flush()
        elif finding.probe == "cleanup" and finding.status == "failed":
            sys.stderr.write(f"aiohaul: {one_line(finding.found)}\n")

    def _erase(self) -> None:
        if self._is_live:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()


def finding_text(finding: Finding, *, colours: bool = False) -> str:
    """Format a finding as lines of text.

    The first line has the status, the name of the probe and the observation. The other lines have
    the meaning for aiohaul, and the advice.
    """
    columns = shutil.get_terminal_size((_COLUMNS, 0)).columns
    indent = " " * (_STATUS_WIDTH + _NAME_WIDTH)
    width = max(columns - 1, len(indent) + _FEWEST)
    status = finding.status.ljust(_STATUS_WIDTH)
    if colours:
        status = f"\x1b[{_COLOURS[finding.status]}m{status}\x1b[0m"
    # Spaces replace the status while the text is wrapped, because colour codes have no width.
    head = " " * _STATUS_WIDTH + finding.probe.ljust(_NAME_WIDTH)
    lines = []
    advice = f"→ {finding.advice}" if finding.advice else ""
    for first, text in ((head, finding.found), (indent, finding.meaning), (indent, advice)):
        if text:
            lines += textwrap.wrap(
                one_line(text),
                width,
                initial_indent=first,
                subsequent_indent=indent,
                break_on_hyphens=False,
            )
    lines[0] = status + lines[0][_STATUS_WIDTH:]
    return "\n".join(lines)


def _summary(found: Examination) -> str:
    counts = {
        status: sum(each.status == status for each in found.findings)
        for status in ("ok", "limited", "failed", "unknown", "skipped")
    }
    summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"{one_line(found.endpoint)}: {summary}, in {found.seconds:.1f} s"
