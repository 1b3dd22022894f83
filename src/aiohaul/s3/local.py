"""Files on this machine, as a source or a destination. All that blocks runs in threads."""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from anyio import from_thread, to_thread

from aiohaul.errors import LocalFileError, LocalFileExistsError
from aiohaul.s3.private import NEW, PARTIAL, partial_beside, usual_mode

#: Bytes that a copy between file systems reads at once.
_CHUNK = 1024 * 1024


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
    return await to_thread.run_sync(_list_files, directory, pattern)


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
                        files.append(_look(path))
        return files


def _look(path: Path) -> LocalFile:
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
    return await to_thread.run_sync(_look_at, list(paths))


def _look_at(paths: list[Path]) -> list[LocalFile]:
    files = []
    for path in paths:
        with explained("looking at", path):
            files.append(_look(path))
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


async def remove_partial(path: str) -> None:
    """Remove what an interrupted run left under a name of its own; other names are left alone.

    Raises:
        LocalFileError: it cannot be removed.
    """
    if PARTIAL.fullmatch(os.path.basename(path)):  # noqa: PTH119  # a name, no look at the disk
        await to_thread.run_sync(_remove, path)


def _remove(path: str) -> None:
    with explained("removing", path), suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108  # as it was written down


async def read_part(file: LocalFile, start: int, size: int) -> bytes:
    """Read ``size`` bytes of the version of the file that was listed.

    Raises:
        LocalFileError: it cannot be read, or is another version by now.
    """
    return await to_thread.run_sync(_read_part, file, start, size)


def _read_part(file: LocalFile, start: int, size: int) -> bytes:
    with explained("reading", file.path), file.path.open("rb") as opened:
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
    with explained("looking at", directory):
        if create:
            directory.mkdir(parents=True, exist_ok=True)
        if not directory.is_dir():
            raise LocalFileError(
                f"{directory} is not a directory. Make it, or have it made: create=True, in a"
                " definition createDirectoryIfNotExists"
            )


class PartialFile:
    """A file that is being written, under a name of its own until it is complete.

    Nobody else may read it until then. It stays open: whatever happens to its name meanwhile,
    the bytes go into one file, and only that file gets the name in the end.

    Args:
        target: the path that it gets at the end, replacing what is there.
        mode: its permission bits then; None leaves them to the umask.
        overwrite: replace what is there.
    """

    def __init__(self, target: Path, mode: int | None = None, *, overwrite: bool = True) -> None:
        self.target = target
        self.partial = partial_beside(target)
        self._mode = mode
        self._overwrite = overwrite
        self._descriptor: int | None = None
        self._opening = threading.Lock()

    async def open(self) -> None:
        """Make it, empty and private.

        Raises:
            LocalFileError: the directory is not writable or gone.
        """
        await to_thread.run_sync(self._write, b"", 0)

    async def put(self, data: bytes) -> str:
        """Write all of it, and commit it.

        Returns:
            What tells this version of the file from others.

        Raises:
            LocalFileError: as for :meth:`write` and :meth:`commit`.
        """
        return await to_thread.run_sync(self._put, data)

    def _put(self, data: bytes) -> str:
        self._write(data, 0)
        return self._commit(len(data))

    async def write(self, data: bytes, start: int) -> None:
        """Write bytes at a place; in any order, and from many tasks.

        Raises:
            LocalFileError: the disk is full, or the directory is not writable or gone.
        """
        await to_thread.run_sync(self._write, data, start)

    def _write(self, data: bytes, start: int) -> None:
        with explained("writing", self.target):
            descriptor = self._open()
            left = memoryview(data)
            while left:
                written = os.pwrite(descriptor, left, start)
                left, start = left[written:], start + written

    def _open(self) -> int:
        with self._opening:
            if self._descriptor is None:
                # Private from its first moment: who has opened it once reads all that follows.
                self._descriptor = os.open(self.partial, NEW, 0o600)
            return self._descriptor

    async def commit(self, size: int) -> str:
        """Bring it to the disk, then give it its name, in one step.

        Args:
            size: bytes that it must have.

        Returns:
            What tells this version of the file from others.

        Raises:
            LocalFileExistsError: there is a file, and it is not to be overwritten.
            LocalFileError: it cannot be written or renamed, or is not what was written.
        """
        return await to_thread.run_sync(self._commit, size)

    def _commit(self, size: int) -> str:
        with explained("writing", self.target):
            descriptor = self._open()
            mode = usual_mode(self.partial) if self._mode is None else self._mode
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
            written, named = os.fstat(descriptor), self.partial.stat()
            if written.st_size != size or written.st_ino != named.st_ino:
                raise LocalFileError(
                    f"writing {self.target} failed: something else wrote or replaced"
                    f" {self.partial.name} meanwhile. Run again"
                )
            self._name()
            sync_directory(self.target.parent)
            self._close()
            return _look(self.target).written

    def _name(self) -> None:
        """Give it its name."""
        if self._overwrite:
            self.partial.replace(self.target)
            return
        try:
            os.link(self.partial, self.target)  # fails if there is one, in one step
        except FileExistsError as error:
            raise LocalFileExistsError(
                f"{self.target} is there already, and is not to be overwritten"
            ) from error
        self.partial.unlink()

    def _close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    async def discard(self) -> None:
        """Leave nothing of it behind, unless it has its name already."""
        await to_thread.run_sync(self._discard)

    def _discard(self) -> None:
        with explained("removing", self.partial):
            self._close()
            self.partial.unlink(missing_ok=True)


async def touch_file(path: Path) -> None:
    """Write an empty file, whatever was there before.

    Raises:
        LocalFileError: it cannot be written.
    """
    await to_thread.run_sync(_touch_file, path)


def _touch_file(path: Path) -> None:
    file = PartialFile(path)
    try:
        file._commit(0)  # noqa: SLF001  # all of it in one thread
    finally:
        file._discard()  # noqa: SLF001  # as above


async def delete_file(file: LocalFile) -> None:
    """Delete this version of a file; one that is gone already counts as deleted.

    Raises:
        LocalFileError: it is another version by now, or cannot be deleted.
    """
    await to_thread.run_sync(_delete_file, file)


def _delete_file(file: LocalFile) -> None:
    with _unchanged("deleting", file):
        file.path.unlink(missing_ok=True)


async def move_file(file: LocalFile, target: Path) -> None:
    """Move this version of a file: a rename, or a copy where that crosses file systems.

    Cancelled while it copies, it stops within one chunk, and leaves the file where it was.

    Raises:
        LocalFileError: it is another version by now, or cannot be moved.
    """
    await to_thread.run_sync(_move_file, file, target)


def _move_file(file: LocalFile, target: Path) -> None:
    with _unchanged("moving", file):
        try:
            file.path.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy_file(file, target)
            if _look(file.path).version != file.version:  # that took its time
                raise LocalFileError(
                    f"moving {file.path} failed: it changed while it was moved, and stays"
                ) from error
            file.path.unlink()
        sync_directory(target.parent)


def _copy_file(file: LocalFile, target: Path) -> None:
    partial = PartialFile(target, stat.S_IMODE(file.path.stat().st_mode))
    at = 0
    try:
        with file.path.open("rb") as opened:
            while data := opened.read(_CHUNK):
                from_thread.check_cancelled()  # raises in here, once the move is cancelled
                partial._write(data, at)  # noqa: SLF001  # all of it in one thread
                at += len(data)
        partial._commit(file.size)  # noqa: SLF001  # as above
    finally:
        partial._discard()  # noqa: SLF001  # as above


def sync_directory(directory: Path) -> None:
    """Bring the names of a directory to the disk."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def _unchanged(doing: str, file: LocalFile) -> Iterator[None]:
    with explained(doing, file.path):
        with suppress(FileNotFoundError):
            if _look(file.path).version != file.version:
                raise LocalFileError(f"{doing} {file.path} failed: it changed after it was copied")
        yield


@contextmanager
def explained(doing: str, path: str | Path) -> Iterator[None]:
    """Say what was done to what where that fails.

    Raises:
        LocalFileError: it failed.
    """
    try:
        yield
    except OSError as error:
        raise LocalFileError(f"{doing} {path} failed: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the path
        raise LocalFileError(f"{doing} {path!r} failed: {error}") from error
