"""Files on this machine, as a source or a destination. All that blocks runs in threads."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from anyio import to_thread

from aiohaul.errors import LocalFileError


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


async def list_files(directory: str) -> list[LocalFile]:
    """The files of a directory, not of those below it; none where there is no directory.

    Raises:
        LocalFileError: the directory cannot be read.
    """
    return await to_thread.run_sync(_list_files, directory)


def _list_files(directory: str) -> list[LocalFile]:
    with _explained("listing", directory):
        try:
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
        except FileNotFoundError:
            return []
        files = []
        for entry in entries:
            with suppress(FileNotFoundError):  # gone between the two looks
                if entry.is_file():
                    files.append(_look(Path(entry.path)))
        return files


def _look(path: Path) -> LocalFile:
    stat = path.stat()
    return LocalFile(
        path=path,
        size=stat.st_size,
        last_modified=datetime.fromtimestamp(stat.st_mtime, UTC),
        version=(stat.st_ino, stat.st_size, stat.st_mtime_ns),
    )


async def read_part(file: LocalFile, start: int, size: int) -> bytes:
    """Read ``size`` bytes of the version of the file that was listed.

    Raises:
        LocalFileError: it cannot be read, or is another version by now.
    """
    return await to_thread.run_sync(_read_part, file, start, size)


def _read_part(file: LocalFile, start: int, size: int) -> bytes:
    with _explained("reading", file.path), file.path.open("rb") as opened:
        opened.seek(start)
        data = opened.read(size)
        if len(data) != size or _look(file.path).version != file.version:
            raise LocalFileError(
                f"reading {file.path} failed: it changed while it was copied."
                " Run again when it is complete"
            )
        return data


async def check_directory(directory: Path, *, create: bool) -> None:
    """Make sure that files can be put into a directory.

    Raises:
        LocalFileError: it is not there and not to be created, or no directory.
    """
    await to_thread.run_sync(_check_directory, directory, create)


def _check_directory(directory: Path, create: bool) -> None:
    with _explained("creating", directory):
        if create:
            directory.mkdir(parents=True, exist_ok=True)
    if not directory.is_dir():
        raise LocalFileError(
            f"{directory} is not a directory. Create it, or set createDirectoryIfNotExists"
        )


class PartialFile:
    """A file that is being written, under a name of its own until it is complete.

    Args:
        target: the path that it gets at the end, replacing what is there.
        mode: its permission bits; None leaves them to the umask.
    """

    def __init__(self, target: Path, mode: int | None = None) -> None:
        self.target = target
        self.size = 0
        self._mode = mode
        self._partial = target.with_name(f".aiohaul-{secrets.token_hex(8)}.part")

    async def write(self, data: bytes) -> None:
        """Append to it.

        Raises:
            LocalFileError: the disk is full, or the directory is not writable or gone.
        """
        await to_thread.run_sync(self._write, data)
        self.size += len(data)

    def _write(self, data: bytes) -> None:
        with _explained("writing", self.target), self._partial.open("ab") as opened:
            opened.write(data)

    async def commit(self) -> None:
        """Bring it to the disk, then give it its name, in one step.

        Raises:
            LocalFileError: it cannot be written or renamed.
        """
        await to_thread.run_sync(self._commit)

    def _commit(self) -> None:
        with _explained("writing", self.target):
            with self._partial.open("ab") as opened:
                os.fsync(opened.fileno())
                if self._mode is not None:
                    os.fchmod(opened.fileno(), self._mode)
            self._partial.replace(self.target)
            sync_directory(self.target.parent)

    async def discard(self) -> None:
        """Leave nothing of it behind."""
        await to_thread.run_sync(self._discard)

    def _discard(self) -> None:
        with _explained("removing", self._partial):
            self._partial.unlink(missing_ok=True)


async def touch_file(path: Path) -> None:
    """Write an empty file, whatever was there before.

    Raises:
        LocalFileError: it cannot be written.
    """
    file = PartialFile(path)
    await file.commit()


async def delete_files(files: Sequence[LocalFile]) -> list[tuple[LocalFile, LocalFileError]]:
    """Delete these versions of files.

    Returns:
        The files that are not deleted, each with the reason.
    """
    return await to_thread.run_sync(_delete_files, files)


def _delete_files(files: Sequence[LocalFile]) -> list[tuple[LocalFile, LocalFileError]]:
    failures = []
    for file in files:
        try:
            with _unchanged("deleting", file):
                file.path.unlink(missing_ok=True)
        except LocalFileError as error:
            failures.append((file, error))
    return failures


async def move_file(file: LocalFile, target: Path) -> None:
    """Move this version of a file (a rename, or a copy where that crosses file systems).

    Raises:
        LocalFileError: it is another version by now, or cannot be moved.
    """
    await to_thread.run_sync(_move_file, file, target)


def _move_file(file: LocalFile, target: Path) -> None:
    with _unchanged("moving", file):
        file.path.replace(target)
        sync_directory(target.parent)


def sync_directory(directory: Path) -> None:
    """Bring the names of a directory to the disk."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def _unchanged(doing: str, file: LocalFile) -> Iterator[None]:
    with _explained(doing, file.path):
        if _look(file.path).version != file.version:
            raise LocalFileError(f"{doing} {file.path} failed: it changed after it was copied")
        yield


@contextmanager
def _explained(doing: str, path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LocalFileError(f"{doing} {path} failed: {error.strerror or error}") from error
