"""Private and temporary files, and checks of files' types, owners and modes."""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

#: Matches the names of temporary files.
PARTIAL_NAME = re.compile(r"\.aiohaul-[0-9a-f]{16}\.part")
#: Flags that create a file, and neither follow a link nor open an existing file.
CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
#: The permission bits of a mode, without set-uid, set-gid and sticky bits.
PERMISSIONS = 0o777


def file_type(path: Path) -> int:
    """Return the file type at a path, as ``stat.S_IFMT`` does; 0 if nothing exists there. Blocks.

    Links are followed. ``Path.exists`` and ``Path.is_file`` are not used, because they return False
    if the path cannot be read.

    Raises:
        OSError: the path cannot be read.
        ValueError: the path contains a NUL.
    """
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return 0


def partial_beside(path: Path) -> Path:
    """Return a random path for a temporary file in the directory of ``path``."""
    return path.parent / f".aiohaul-{secrets.token_hex(8)}.part"


def find_same_file(directory: Path, groups: Iterable[Iterable[str]]) -> tuple[str, str] | None:
    """Find two names that the file system of a directory maps to one file. Blocks.

    A file system may ignore the case of names, or normalise Unicode. This function creates empty
    files with these names in a temporary subdirectory, and then removes them.

    Args:
        directory: the directory.
        groups: groups of names. Only names in the same group are compared.

    Returns:
        The first two names that are one file; None if there are none.

    Raises:
        OSError: the subdirectory, or a file with one of the names, cannot be created.
    """
    probe = partial_beside(directory / "probe")
    probe.mkdir(mode=0o700)
    created: list[str] = []
    try:
        for names in groups:
            for name in names:
                try:
                    os.close(os.open(probe / name, CREATE_FLAGS, 0o600))
                except FileExistsError:
                    same = (each for each in created if (probe / each).samefile(probe / name))
                    return next(same, created[0]), name
                created.append(name)
            while created:
                (probe / created.pop()).unlink()
    finally:
        for name in created:
            (probe / name).unlink()
        probe.rmdir()
    return None


def check_owned(status: os.stat_result, name: str) -> None:
    """Check that a file is a regular file to which no other user can write.

    Args:
        status: the result of ``lstat`` or ``fstat`` for the file.
        name: the name of the file in the error message.

    Raises:
        PermissionError: the file is not a regular file, or another user can write to it.
    """
    if stat.S_ISLNK(status.st_mode):
        problem = "is a link"
    elif not stat.S_ISREG(status.st_mode):
        problem = "is not a regular file"
    elif status.st_uid != os.geteuid():
        problem = "belongs to another user"
    elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = "can be written by other users (use chmod go-w if its content is right)"
    else:
        return
    raise PermissionError(f"{name} {problem}")


def default_mode(file: Path, directory: int | None = None) -> int:
    """Return the mode of a new file in the directory of ``file``.

    Args:
        file: the path of the file.
        directory: a descriptor of the directory; None opens the directory by its path.

    The umask or the default ACL of the directory sets this mode. The function creates a file
    without a name (``O_TMPFILE``), which a killed process cannot leave behind. On a file system
    without such files, the function uses the umask.
    """
    try:
        flags = os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC
        if directory is None:
            descriptor = os.open(file.parent, flags, 0o666)
        else:
            descriptor = os.open(".", flags, 0o666, dir_fd=directory)
    except OSError:
        return 0o666 & ~_umask()
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _umask() -> int:
    """Return the umask from ``/proc``, because ``os.umask`` would change it for other threads."""
    found = re.search(r"(?m)^Umask:\s*([0-7]+)$", Path("/proc/self/status").read_text())
    return int(found[1], 8) if found else 0o077


def write_private(path: Path, data: bytes) -> None:
    """Write a file atomically, with a mode that lets only the owner read it. Blocks.

    If the path is a terminal or a pipe, for example, the data is written directly.

    Raises:
        OSError: the file cannot be written.
    """
    if file_type(path) not in {0, stat.S_IFREG}:
        path.write_bytes(data)
        return
    partial = partial_beside(path)
    try:
        with os.fdopen(os.open(partial, CREATE_FLAGS, 0o600), "wb") as opened:
            opened.write(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
