"""Advice for errors that come from exhausted file descriptors, memory or threads."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3

_MEMORY = (
    "There is not enough memory. Free memory, or lower max_requests of the Session; then run again."
)
_THREADS = (
    "No more threads can be started. Raise the limit of threads (ulimit -u, or the pids limit of"
    " the container), or end other processes; then run again."
)
_MACHINE = (
    "The machine has as many open files as the kernel allows. Raise the kernel's limit (sysctl"
    " fs.file-max), or end processes that have open files; then run again."
)


def resource_advice(error: BaseException) -> str:
    """Return advice for an error that comes from an exhausted resource; "" for other errors.

    Args:
        error: an error of the operating system, or the error of a library that wraps it.
    """
    wrapped = getattr(error, "kwargs", {}).get("error")  # botocore wraps errors like this
    if isinstance(wrapped, BaseException):
        return resource_advice(wrapped)
    match error:
        case MemoryError():
            return _MEMORY
        case OSError():
            return _errno_advice(error.errno)
        case RuntimeError() if "start new thread" in str(error):
            return _THREADS
        case sqlite3.OperationalError() if "unable to open" in str(error):
            return _errno_advice(_open_errno())  # sqlite3's error has no errno
        case _:
            return ""


def os_error_reason(error: OSError) -> str:
    """Return the operating system's text for an error, and advice if a resource is exhausted."""
    reason = error.strerror or str(error)
    advice = resource_advice(error)
    return f"{reason}. {advice.removesuffix('.')}" if advice else reason


def _errno_advice(number: int | None) -> str:
    match number:
        case errno.EMFILE:
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            return (
                f"The process uses all of its {limit} file descriptors. Raise the limit of file"
                " descriptors (ulimit -n 65536), or lower max_requests and max_invocations of the"
                " Session; then run again."
            )
        case errno.ENFILE:
            return _MACHINE
        case errno.ENOMEM:
            return _MEMORY
        case _:
            return ""


def _open_errno() -> int | None:
    """Return the errno with which opening a file fails now; None if a file can be opened."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno
    return None


def check_descriptors() -> None:
    """Check that the process has free file descriptors.

    Called before botocore reads configuration files, because botocore treats a file that cannot be
    opened as a missing file.

    Raises:
        OSError: no file can be opened.
    """
    # More than one, because the caller then reads several files while other tasks open files.
    opened = list[int]()
    try:
        for _ in range(_SPARE_DESCRIPTORS):
            opened.append(
                os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            )  # closed below, however many
    finally:
        for each in opened:
            os.close(each)


#: The number of file descriptors that must be free before credentials and settings are read.
_SPARE_DESCRIPTORS = 4
