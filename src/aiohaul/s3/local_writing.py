"""Files on this machine: writing, moving and deleting them, in threads, whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio

from aiohaul.aws.direct.payload import Bytes
from aiohaul.concurrency import first_of
from aiohaul.errors import LocalFileError, LocalFileExistsError
from aiohaul.s3.local import LocalFile, explained, look
from aiohaul.s3.private import NEW, PARTIAL, partial_beside, usual_mode
from aiohaul.threads import run_in_thread

#: Bytes that a copy between file systems reads at once.
_CHUNK = 1024 * 1024


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
        await run_in_thread(self._write, b"", 0)

    async def put(self, data: Bytes) -> str:
        """Write all of it, and commit it.

        Returns:
            What tells this version of the file from others.

        Raises:
            LocalFileError: as for :meth:`write` and :meth:`commit`.
        """
        return await run_in_thread(self._put, data)

    def _put(self, data: Bytes) -> str:
        self._write(data, 0)
        return self._commit(len(data))

    async def write(self, data: Bytes, start: int) -> None:
        """Write bytes at a place; in any order, and from many tasks.

        Raises:
            LocalFileError: the disk is full, or the directory is not writable or gone.
        """
        await run_in_thread(self._write, data, start)

    def _write(self, data: Bytes, start: int) -> None:
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
        return await run_in_thread(self._commit, size)

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
            return look(self.target).written

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
        await run_in_thread(self._discard)

    def _discard(self) -> None:
        with explained("removing", self.partial):
            self._close()
            self.partial.unlink(missing_ok=True)


async def touch_file(path: Path) -> None:
    """Write an empty file, whatever was there before.

    Raises:
        LocalFileError: it cannot be written.
    """
    await run_in_thread(_touch_file, path)


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
    await run_in_thread(_delete_file, file)


def _delete_file(file: LocalFile) -> None:
    with _unchanged("deleting", file):
        file.path.unlink(missing_ok=True)


async def move_file(file: LocalFile, target: Path) -> None:
    """Move this version of a file: a rename, or a copy where that crosses file systems.

    Cancelled while it copies, it stops within one chunk, and leaves the file where it was.

    Raises:
        LocalFileError: it is another version by now, or cannot be moved.
    """
    cancelled = threading.Event()

    async def move() -> None:
        await run_in_thread(_move_file, file, target, cancelled)

    async def notice() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    await first_of(move, notice)


def _move_file(file: LocalFile, target: Path, cancelled: threading.Event) -> None:
    with _unchanged("moving", file):
        try:
            file.path.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy_file(file, target, cancelled)
            if look(file.path).version != file.version:  # that took its time
                raise LocalFileError(
                    f"moving {file.path} failed: it changed while it was moved, and stays"
                ) from error
            file.path.unlink()
        sync_directory(target.parent)


def _copy_file(file: LocalFile, target: Path, cancelled: threading.Event) -> None:
    partial = PartialFile(target, stat.S_IMODE(file.path.stat().st_mode))
    at = 0
    try:
        with file.path.open("rb") as opened:
            while data := opened.read(_CHUNK):
                if cancelled.is_set():
                    raise LocalFileError(f"moving {file.path} was cancelled: it stays")
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


async def remove_partial(path: str) -> None:
    """Remove what an interrupted run left under a name of its own; other names are left alone.

    Raises:
        LocalFileError: it cannot be removed.
    """
    if PARTIAL.fullmatch(os.path.basename(path)):  # noqa: PTH119  # a name, no look at the disk
        await run_in_thread(_remove, path)


def _remove(path: str) -> None:
    with explained("removing", path), suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108  # as it was written down


@contextmanager
def _unchanged(doing: str, file: LocalFile) -> Iterator[None]:
    with explained(doing, file.path):
        with suppress(FileNotFoundError):
            if look(file.path).version != file.version:
                raise LocalFileError(f"{doing} {file.path} failed: it changed after it was copied")
        yield
