"""Files on this machine: finding, looking at and reading them, in threads."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aiohaul.errors import LocalFileError
from aiohaul.s3.private import PARTIAL, file_type
from aiohaul.shortage import explained_shortage
from aiohaul.threads import run_in_thread


@dataclass(frozen=True, slots=True)
class LocalFile:
    """One file, as a look into its directory saw it.

    Attributes:
        path: its whole path.
        size: bytes.
        last_modified: in UTC.
        version: changes when the file is replaced or written: inode, size and time in ns.
    """

    path: Path
    size: int
    last_modified: datetime
    version: tuple[int, int, int]

    @property
    def name(self) -> str:
        """The file name."""
        return self.path.name

    @property
    def uri(self) -> str:
        """The path, as errors and reports name it."""
        return str(self.path)

    @property
    def written(self) -> str:
        """The version as a text."""
        return "-".join(map(str, self.version))


async def list_files(directory: str, pattern: re.Pattern[str]) -> list[LocalFile]:
    """The files of a directory whose names match, not of those below it.

    None where there is no directory. What aiohaul itself is still writing there is left out.

    Raises:
        LocalFileError: the directory, or a file whose name matches, cannot be looked at.
    """
    return await run_in_thread(_list_files, directory, pattern, abandon_on_cancel=True)


def _list_files(directory: str, pattern: re.Pattern[str]) -> list[LocalFile]:
    with explained("listing", directory):
        try:
            names = sorted(os.listdir(directory))  # noqa: PTH208  # the names are matched first
        except FileNotFoundError:
            return []
        files = []
        for name in names:
            if pattern.match(name) and not PARTIAL.fullmatch(name):
                with suppress(FileNotFoundError):  # gone between the two looks
                    path = Path(directory, name)
                    if stat.S_ISREG(path.stat().st_mode):
                        files.append(look(path))
        return files


def look(path: Path) -> LocalFile:
    """Look at one file. Blocks.

    Raises:
        OSError: it is not there, or cannot be looked at.
    """
    seen = path.stat()
    return LocalFile(
        path=path,
        size=seen.st_size,
        last_modified=datetime.fromtimestamp(seen.st_mtime, UTC),
        version=(seen.st_ino, seen.st_size, seen.st_mtime_ns),
    )


async def look_at(paths: Iterable[Path]) -> list[LocalFile]:
    """Look at these files.

    Raises:
        LocalFileError: one is not there, or cannot be looked at.
    """
    return await run_in_thread(_look_at, list(paths), abandon_on_cancel=True)


def _look_at(paths: list[Path]) -> list[LocalFile]:
    files = []
    for path in paths:
        with explained("looking at", path):
            files.append(look(path))
    return files


async def find_file(path: Path) -> LocalFile | None:
    """The file at a path, or None.

    Raises:
        LocalFileError: it cannot be looked at.
    """
    try:
        return (await look_at([path]))[0]
    except LocalFileError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return None
        raise


async def read_part(file: LocalFile, start: int, size: int) -> bytes:
    """Read ``size`` bytes of the version of the file that was listed.

    Raises:
        LocalFileError: it cannot be read, or is another version by now.
    """
    return await run_in_thread(_read_part, file, start, size, abandon_on_cancel=True)


def _read_part(file: LocalFile, start: int, size: int) -> bytes:
    with explained("reading", file.path), file.path.open("rb") as opened:
        opened.seek(start)
        data = opened.read(size)
        if len(data) != size or look(file.path).version != file.version:
            raise LocalFileError(
                f"reading {file.path} failed: it changed while it was copied."
                " Run again when it is complete"
            )
        return data


async def check_directory(directory: Path, *, create: bool) -> None:
    """Make sure that files can be put into a directory.

    Raises:
        LocalFileError: it is not there and not to be created, is not a directory, or cannot be
            looked at.
    """
    await run_in_thread(_check_directory, directory, create)


def _check_directory(directory: Path, create: bool) -> None:
    with explained("looking at", directory):
        if create:
            directory.mkdir(parents=True, exist_ok=True)
        if file_type(directory) != stat.S_IFDIR:
            raise LocalFileError(
                f"{directory} is not a directory. Make it, or have it made: create=True, in a"
                " definition createDirectoryIfNotExists"
            )


@contextmanager
def explained(doing: str, path: str | Path) -> Iterator[None]:
    """Say what failed on which path.

    Raises:
        LocalFileError: for what the operating system refuses.
    """
    try:
        yield
    except OSError as error:
        raise LocalFileError(f"{doing} {path} failed: {explained_shortage(error)}") from error
    except ValueError as error:  # a NUL in the path
        raise LocalFileError(f"{doing} {path!r} failed: {error}") from error
