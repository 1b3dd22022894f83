"""Files on this machine: finding, looking at and reading them, in threads."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aiohaul.errors import LocalFileError
from aiohaul.s3.compact import Block, CompactSequence
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


@dataclass(frozen=True, slots=True)
class _FileBlock(Block[LocalFile]):
    """Files of a directory, field by field."""

    directory: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    inodes: tuple[int, ...]
    times: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of all of them together."""
        return sum(self.sizes)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[LocalFile]:
        return map(self.__getitem__, range(len(self.names)))

    def __getitem__(self, index: int) -> LocalFile:
        path = Path(self.directory, self.names[index])
        return _seen(path, self.inodes[index], self.sizes[index], self.times[index])


async def list_files(directory: str, pattern: re.Pattern[str]) -> Sequence[LocalFile]:
    """The files of a directory whose names match, not of those below it.

    None where there is no directory. What aiohaul itself is still writing there is left out.

    Raises:
        LocalFileError: the directory, or a file whose name matches, cannot be looked at.
    """
    return await run_in_thread(_list_files, directory, pattern, abandon_on_cancel=True)


def _list_files(directory: str, pattern: re.Pattern[str]) -> Sequence[LocalFile]:
    with explained("listing", directory):
        try:
            names = sorted(os.listdir(directory))  # noqa: PTH208  # the names are matched first
        except FileNotFoundError:
            return CompactSequence()
        rows = []
        for name in names:
            if pattern.match(name) and not PARTIAL.fullmatch(name):
                with suppress(FileNotFoundError):  # gone between the two looks
                    seen = Path(directory, name).stat()
                    if stat.S_ISREG(seen.st_mode):
                        rows.append((name, seen.st_size, seen.st_ino, seen.st_mtime_ns))
        return CompactSequence([_FileBlock(directory, *zip(*rows, strict=True))] if rows else ())


def look(path: Path) -> LocalFile:
    """Look at one file. Blocks.

    Raises:
        OSError: it is not there, or cannot be looked at.
    """
    seen = path.stat()
    return _seen(path, seen.st_ino, seen.st_size, seen.st_mtime_ns)


def _seen(path: Path, inode: int, size: int, time: int) -> LocalFile:
    modified = datetime.fromtimestamp(time / 1e9, UTC)
    return LocalFile(path, size, modified, version=(inode, size, time))


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
