"""Where small objects are copied: what is there before, and what has to be there afterwards."""

from __future__ import annotations

import os
import shutil
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path

from benchmarks.copies.peers import SOURCE
from benchmarks.harness import servers
from benchmarks.harness.surroundings import scratch

BUCKETS = ("first", "second", "third")
SIZE = 1024


@dataclass(frozen=True)
class Place:
    """A server with objects.

    Attributes:
        server: it.
        folder: for the files of those who copy.
        next: makes, or names, a directory in all buckets to which nothing has been copied.
        check: sees that so many objects have arrived in each bucket's directory, and forgets them.
    """

    server: servers.Served
    folder: Path
    next: Callable[[], str]
    check: Callable[[str, int], None]

    def source(self, count: int) -> str:
        """The directory that holds so many objects."""
        return f"n{count}"


@contextmanager
def in_memory() -> Iterator[Place]:
    """An endpoint that keeps nothing, and counts."""
    names = (f"d{number}" for number in numbers())
    with (
        tempfile.TemporaryDirectory(dir=scratch()) as folder,
        servers.module("benchmarks.harness.endpoint") as server,
    ):

        def check(directory: str, count: int) -> None:
            with urllib.request.urlopen(f"{server.url}/-/copied", timeout=60) as answer:  # noqa: S310  # its own
                _compare(directory, int(answer.read()), count * len(BUCKETS))

        yield Place(server, Path(folder), lambda: next(names), check)


@contextmanager
def on_rclone(counts: Sequence[int], directories: int) -> Iterator[Place]:
    """``rclone serve s3`` with a source directory for each count, and empty ones to copy to."""
    with (
        tempfile.TemporaryDirectory(dir=scratch()) as place,
        tempfile.TemporaryDirectory(dir=scratch()) as folder,
    ):
        data = Path(place)
        for count in counts:
            _fill(data / SOURCE / f"n{count}", count)
        names = [f"d{number}" for number in range(directories)]
        # Before the server starts: it answers errors while requests race to make a directory.
        for name in names:
            for bucket in BUCKETS:
                (data / bucket / name).mkdir(parents=True)

        def check(directory: str, count: int) -> None:
            for bucket in BUCKETS:
                arrived = [each.stat().st_size for each in (data / bucket / directory).iterdir()]
                _compare(directory, arrived.count(SIZE), count)
                shutil.rmtree(data / bucket / directory)

        unused = iter(names)
        with servers.rclone(data) as server:
            yield Place(server, Path(folder), lambda: next(unused), check)


def _fill(directory: Path, count: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (directory / f"{number:06}.csv").write_bytes(os.urandom(SIZE))


def _compare(directory: str, arrived: int, expected: int) -> None:
    if arrived != expected:
        raise SystemExit(f"{directory}: {arrived} of {expected} objects arrived")
