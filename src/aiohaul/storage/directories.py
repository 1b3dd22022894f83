"""Directories that stay the same: names in them are not resolved by their paths again.

Whoever may write to a parent of a directory may replace the directory, with a link for example. A
path then leads to another place than before, so that each use opens the directory and compares it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: The device and the inode of a directory.
DirectoryId = tuple[int, int]


def directory_id(path: Path) -> DirectoryId:
    """Return the identity of the directory at a path. Links are followed. Blocks.

    Raises:
        OSError: the directory cannot be read.
    """
    status = path.stat()
    return status.st_dev, status.st_ino


def make_directories(
    path: Path, expected: DirectoryId, folders: Iterable[str]
) -> dict[str, DirectoryId]:
    """Create subdirectories that do not exist, and return the identity of each. Blocks.

    No link is followed below ``path``, so that each subdirectory is inside of it.

    Args:
        path: the path of the directory.
        expected: the identity that the directory must have.
        folders: the paths of the subdirectories, relative to ``path``, such as ``2026/01/``.

    Raises:
        OSError: a subdirectory cannot be created, or is a link or a file.
    """
    made: dict[str, DirectoryId] = {}
    with opened_directory(path, expected) as top:
        for folder in folders:
            opened = os.dup(top)
            try:
                for segment in folder.rstrip("/").split("/"):
                    with suppress(FileExistsError):
                        os.mkdir(segment, dir_fd=opened)
                    above, opened = opened, _open_below(opened, segment, path / folder)
                    os.close(above)
                status = os.fstat(opened)
                made[folder] = status.st_dev, status.st_ino
            finally:
                os.close(opened)
    return made


def _open_below(directory: int, name: str, shown: Path) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=directory)
    except OSError as error:
        if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
            raise
        raise OSError(
            f"{name!r} in the path {shown} is a link or a file, and not a directory. Remove it, or"
            " copy to another directory"
        ) from error


@contextmanager
def opened_directory(path: Path, expected: DirectoryId | None = None) -> Iterator[int]:
    """Open a directory, to use the names in it with ``dir_fd``. Blocks.

    Args:
        path: the path of the directory.
        expected: the identity that the directory must have; None for any.

    Yields:
        The file descriptor.

    Raises:
        OSError: the directory cannot be opened, or is another one than expected.
    """
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        status = os.fstat(opened)
        if expected is not None and (status.st_dev, status.st_ino) != expected:
            raise OSError(
                f"another process replaced the directory {path}. Check who may write to"
                f" {path.parent}, and run again"
            )
        yield opened
    finally:
        os.close(opened)
