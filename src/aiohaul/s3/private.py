"""Files that nobody else may read while they are written, or ever."""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path

#: The names of files that are being written.
PARTIAL = re.compile(r"\.aiohaul-[0-9a-f]{16}\.part")
#: How they are opened: what is there already is neither followed nor written to.
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def file_type(path: Path) -> int:
    """The type of what is at a path, as ``stat.S_IFMT`` gives it; 0 if nothing is there. Blocks.

    Links are followed. ``Path.exists`` and its kin answer False to some errors, and to more of
    them since Python 3.14.

    Raises:
        OSError: it cannot be looked at.
        ValueError: a NUL in the path.
    """
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return 0


def partial_beside(path: Path) -> Path:
    """A name of its own, in the directory of ``path``, for a file that is being written."""
    return path.parent / f".aiohaul-{secrets.token_hex(8)}.part"


def folds_case(directory: Path) -> bool:
    """Whether the file system there tells no upper from lower case in names. Blocks.

    It is asked with a file that is gone again.

    Raises:
        OSError: no file can be made there.
    """
    file = partial_beside(directory / "file")
    os.close(os.open(file, NEW, 0o600))
    try:
        return file_type(file.with_name(file.name.upper())) != 0
    finally:
        file.unlink()


def usual_mode(beside: Path) -> int:
    """What a new file there gets from the umask, or from the directory's default ACL.

    It is asked of a file without a name, which no killed process leaves behind; where the file
    system has none of these, the umask decides.
    """
    try:
        descriptor = os.open(beside.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    except OSError:
        return 0o666 & ~_umask()
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _umask() -> int:
    """The umask, without changing it for the other threads."""
    found = re.search(r"(?m)^Umask:\s*([0-7]+)$", Path("/proc/self/status").read_text())
    return int(found[1], 8) if found else 0o077


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, in one step. Blocks.

    What is no regular file, such as a terminal or a pipe, is written to as it is.

    Raises:
        OSError: it cannot be written.
    """
    if file_type(path) not in {0, stat.S_IFREG}:
        path.write_bytes(data)
        return
    partial = partial_beside(path)
    try:
        with os.fdopen(os.open(partial, NEW, 0o600), "wb") as opened:
            opened.write(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
