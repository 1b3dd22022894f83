"""What to do where the process, or the machine, has run out of something."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3

_MEMORY = (
    "There is not enough memory. Free some, or lower max_requests of the Session; then run again."
)
_THREADS = (
    "No more threads can be started. Raise that limit (ulimit -u, or the pids limit of the"
    " container), or end what runs beside this; then run again."
)
_MACHINE = (
    "The machine has as many files open as its kernel allows. Raise that (sysctl fs.file-max), or"
    " end what holds them; then run again."
)


def shortage(error: BaseException) -> str:
    """What to do about a shortage that an error comes from; "" for every other error.

    Args:
        error: of the operating system, or what a library has made of it.
    """
    beneath = getattr(error, "kwargs", {}).get("error")  # as botocore chains
    if isinstance(beneath, BaseException):
        return shortage(beneath)
    match error:
        case MemoryError():
            return _MEMORY
        case OSError():
            return _of_number(error.errno)
        case RuntimeError() if "start new thread" in str(error):
            return _THREADS
        case sqlite3.OperationalError() if "unable to open" in str(error):
            return _of_number(_refused())  # sqlite does not say why
        case _:
            return ""


def explained_shortage(error: OSError) -> str:
    """The operating system's word for a failure, and what to do about it if that is known."""
    word = error.strerror or str(error)
    advice = shortage(error)
    return f"{word}. {advice.removesuffix('.')}" if advice else word


def _of_number(number: int | None) -> str:
    match number:
        case errno.EMFILE:
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            return (
                f"This process has all of its {limit} file descriptors in use. Raise that limit"
                " (ulimit -n 65536), or lower max_requests and max_invocations of the Session;"
                " then run again."
            )
        case errno.ENFILE:
            return _MACHINE
        case errno.ENOMEM:
            return _MEMORY
        case _:
            return ""


def _refused() -> int | None:
    """Why no file can be opened at all at this moment; None if one can."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno
    return None


def check_descriptors() -> None:
    """Refuse to go on where no file can be opened.

    For libraries that take a file that they cannot open for one that is not there.

    Raises:
        OSError: no file can be opened.
    """
    # More than one: what is about to begin reads one file after the other, beside other work.
    opened = list[int]()
    try:
        for _ in range(_SPARE):
            opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))  # what is open is closed
    finally:
        for each in opened:
            os.close(each)


#: File descriptors that must be free before credentials and settings are looked for.
_SPARE = 4
