"""Writes, moves and deletes local files atomically, in threads."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import anyio

from aiohaul.aws.http.payload import Bytes
from aiohaul.concurrency import race
from aiohaul.errors import LocalFileError, LocalFileExistsError
from aiohaul.s3.local import LocalFile, local_file, opened_version, os_errors, stat_file
from aiohaul.storage.directories import DirectoryId, opened_directory
from aiohaul.storage.private_files import (
    CREATE_FLAGS,
    PARTIAL_NAME,
    PERMISSIONS,
    default_mode,
    partial_beside,
)
from aiohaul.threads import run_in_thread

#: The number of bytes that a move between file systems reads and writes at a time.
_CHUNK = 1024 * 1024


class PartialFile:
    """A file that has a temporary name until it is complete.

    Until then, only the owner can read the file. The file stays open, so that all bytes are written
    to the same file, even if another process replaces the temporary name. Only this file gets the
    final name.

    Args:
        target: the final path.
        mode: the final permission bits; None uses the umask or the directory's default ACL.
        overwrite: True replaces an existing file at the final path.
        directory: the identity of the directory; None uses the directory that is there when the
            temporary file is created. If the path leads to another directory later, it is an error.
    """

    def __init__(
        self,
        target: Path,
        mode: int | None = None,
        *,
        overwrite: bool = True,
        directory: DirectoryId | None = None,
    ) -> None:
        self.target = target
        self.partial = partial_beside(target)
        self._mode = mode
        self._overwrite = overwrite
        self._directory = directory
        self._named = False
        self._descriptor: int | None = None
        self._opening = threading.Lock()

    async def open(self) -> None:
        """Create the empty file, which only the owner can read.

        Raises:
            LocalFileError: the directory is not writable, or does not exist.
        """
        await run_in_thread(self._write, b"", 0)

    async def put(self, data: Bytes) -> str:
        """Write the whole file, and give it its final name.

        Returns:
            The version of the file, as a string.

        Raises:
            LocalFileExistsError: a file has the final name, and ``overwrite`` is False.
            LocalFileError: the file cannot be written or renamed.
        """
        return await run_in_thread(self._put, data)

    def _put(self, data: Bytes) -> str:
        self._write(data, 0)
        return self._commit(len(data))

    async def write(self, data: Bytes, start: int) -> None:
        """Write bytes at the offset ``start``. Tasks may write concurrently and in any order.

        Raises:
            LocalFileError: the disk is full, or the directory is not writable or does not exist.
        """
        await run_in_thread(self._write, data, start)

    def _write(self, data: Bytes, start: int) -> None:
        with os_errors("writing", self.target):
            descriptor = self._open()
            remaining = memoryview(data)
            while remaining:
                written = os.pwrite(descriptor, remaining, start)
                remaining, start = remaining[written:], start + written

    def _open(self) -> int:
        with self._opening:
            if self._descriptor is None:
                # Private from the start, because a process that opened the file could read all
                # later writes.
                with self._opened_directory() as directory:
                    status = os.fstat(directory)
                    self._directory = status.st_dev, status.st_ino
                    self._descriptor = os.open(
                        self.partial.name, CREATE_FLAGS, 0o600, dir_fd=directory
                    )
            return self._descriptor

    def _opened_directory(self) -> AbstractContextManager[int]:
        return opened_directory(self.target.parent, self._directory)

    async def commit(self, size: int) -> str:
        """Sync the file to the disk (fsync), then give it its final name, atomically.

        Args:
            size: the expected size of the file in bytes.

        Returns:
            The version of the file, as a string.

        Raises:
            LocalFileExistsError: a file has the final name, and ``overwrite`` is False.
            LocalFileError: the file cannot be written or renamed, or another process changed it.
        """
        return await run_in_thread(self._commit, size)

    def _commit(self, size: int) -> str:
        with os_errors("writing", self.target):
            descriptor = self._open()
            with self._opened_directory() as directory:
                mode = self._mode
                os.fchmod(
                    descriptor, default_mode(self.partial, directory) if mode is None else mode
                )
                os.fsync(descriptor)
                written = os.fstat(descriptor)
                named = os.stat(self.partial.name, dir_fd=directory, follow_symlinks=False)
                if written.st_size != size or written.st_ino != named.st_ino:
                    raise LocalFileError(
                        f"writing {self.target} failed: another process changed or replaced the"
                        f" temporary file {self.partial.name}. Run again"
                    )
                self._name(directory)
                self._named = True
                os.fsync(directory)
            version = local_file(self.target, os.fstat(descriptor)).version_text
            self._close()
            return version

    def _name(self, directory: int) -> None:
        """Give the file its final name."""
        partial, target = self.partial.name, self.target.name
        if self._overwrite:
            os.replace(partial, target, src_dir_fd=directory, dst_dir_fd=directory)
            return
        try:  # atomic, and fails if the target exists
            os.link(partial, target, src_dir_fd=directory, dst_dir_fd=directory)
        except FileExistsError as error:
            raise LocalFileExistsError(
                f"writing {self.target} failed: the file exists already, and overwrite is False."
                " Remove the file, or set overwrite=True"
            ) from error
        os.unlink(partial, dir_fd=directory)

    def _close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    async def discard(self) -> None:
        """Close and remove the temporary file. A file with its final name stays."""
        await run_in_thread(self._discard)

    def _discard(self) -> None:
        with os_errors("removing", self.partial):
            self._close()
            if not self._named:
                with suppress(FileNotFoundError), self._opened_directory() as directory:
                    os.unlink(self.partial.name, dir_fd=directory)


async def touch_file(path: Path, directory: DirectoryId | None = None) -> None:
    """Write an empty file. An existing file is overwritten.

    Args:
        path: the path of the file.
        directory: the identity of its directory; None for any.

    Raises:
        LocalFileError: the file cannot be written, or its directory was replaced.
    """
    await run_in_thread(_touch_file, path, directory)


def _touch_file(path: Path, directory: DirectoryId | None) -> None:
    file = PartialFile(path, directory=directory)
    try:
        file._commit(0)  # noqa: SLF001  # one call of run_in_thread for all
    finally:
        file._discard()  # noqa: SLF001  # as above


async def delete_file(file: LocalFile) -> None:
    """Delete this version of a file. A file that no longer exists counts as deleted.

    Raises:
        LocalFileError: the file has changed since it was listed, or cannot be deleted.
    """
    await run_in_thread(_delete_file, file)


def _delete_file(file: LocalFile) -> None:
    with (
        os_errors("deleting", file.path),
        suppress(FileNotFoundError),
        opened_directory(file.path.parent) as directory,
    ):
        _check_unchanged("deleting", file, directory)
        os.unlink(file.path.name, dir_fd=directory)


async def move_file(file: LocalFile, target: Path, directory: DirectoryId | None = None) -> None:
    """Move this version of a file by a rename, or by a copy to another file system.

    If cancelled during the copy, the move stops after the current chunk of 1 MiB, and the file is
    not moved.

    Args:
        file: the file.
        target: the new path.
        directory: the identity of the new directory; None for any.

    Raises:
        LocalFileError: the file has changed since it was listed, or cannot be moved, or the new
            directory was replaced.
    """
    cancelled = threading.Event()

    async def move() -> None:
        await run_in_thread(_move_file, file, target, directory, cancelled)

    async def watch_cancel() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    await race(move, watch_cancel)


def _move_file(
    file: LocalFile, target: Path, expected: DirectoryId | None, cancelled: threading.Event
) -> None:
    name = file.path.name
    with (
        os_errors("moving", file.path),
        opened_directory(file.path.parent) as directory,
        opened_directory(target.parent, expected) as new_directory,
    ):
        _check_unchanged("moving", file, directory)
        try:
            os.replace(name, target.name, src_dir_fd=directory, dst_dir_fd=new_directory)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy_file(file, target, expected, cancelled)
            if stat_file(file.path, directory).version != file.version:  # a copy takes long
                raise LocalFileError(
                    f"moving {file.path} failed: the file changed during the move, and was not"
                    " moved. Run again when the file is complete"
                ) from error
            os.unlink(name, dir_fd=directory)
        os.fsync(new_directory)


def _copy_file(
    file: LocalFile, target: Path, expected: DirectoryId | None, cancelled: threading.Event
) -> None:
    with opened_version(file) as descriptor:
        # Without set-uid, set-gid and sticky bits, because the copy may have another owner.
        mode = os.fstat(descriptor).st_mode & PERMISSIONS
        partial = PartialFile(target, mode, directory=expected)
        at = 0
        try:
            while data := os.read(descriptor, _CHUNK):
                if cancelled.is_set():
                    raise LocalFileError(
                        f"moving {file.path} failed: the move was cancelled, and the file was not"
                        " moved"
                    )
                partial._write(data, at)  # noqa: SLF001  # one call of run_in_thread for all
                at += len(data)
            partial._commit(file.size)  # noqa: SLF001  # as above
        finally:
            partial._discard()  # noqa: SLF001  # as above


async def remove_partial(path: str) -> None:
    """Remove the temporary file of an interrupted run. A file with another name stays.

    Raises:
        LocalFileError: the file cannot be removed.
    """
    if PARTIAL_NAME.fullmatch(os.path.basename(path)):  # noqa: PTH119  # a string operation
        await run_in_thread(_remove, path)


def _remove(path: str) -> None:
    with os_errors("removing", path), suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108  # the path as recorded


def _check_unchanged(doing: str, file: LocalFile, directory: int) -> None:
    """Raise LocalFileError if a file has another version, and not if it is gone."""
    with suppress(FileNotFoundError):
        if stat_file(file.path, directory).version != file.version:
            raise LocalFileError(
                f"{doing} {file.path} failed: the file changed after the copy. Run again to copy"
                " the new version"
            )
