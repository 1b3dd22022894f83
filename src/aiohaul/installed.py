"""Detects a conflict with otf-addons-aws, which installs files of the same names."""

from __future__ import annotations

import base64
import hashlib
import itertools
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import Protocol, cast


class _Readable(Protocol):
    def read_bytes(self) -> bytes: ...


#: The package whose modules aiohaul replaces.
PEER = "otf-addons-aws"

#: A counter, not a lock: a forked process could inherit a held lock.
_calls = itertools.count()


def warn_once() -> None:
    """Warn if another package replaced the handlers that aiohaul installed, or may replace them.

    Only the first call in a process checks. Forked processes do not check again.

    Warns:
        UserWarning: another package installs files with the same names, or files of aiohaul are
            missing or changed.
    """
    if next(_calls) == 0 and (problem := find_problem()):
        warnings.warn(problem, stacklevel=2)


def find_problem() -> str | None:
    """Compare the installed handlers with the RECORD of aiohaul's installation.

    This function reads about 25 small files.

    Returns:
        The problem and how to fix it. None if no problem was found, or if no check is possible, as
        in an editable install, in a frozen application, without a RECORD, or if the RECORD belongs
        to another copy of aiohaul.
    """
    try:
        ours = distribution("aiohaul")
        if _root(ours).joinpath("aiohaul/installed.py").resolve() != Path(__file__).resolve():
            return None
        handlers = {path: hash_ for path, hash_ in _record(ours) if path.startswith("opentaskpy/")}
        damaged = [path for path, hash_ in handlers.items() if not _is_intact(ours, path, hash_)]
        other = _owner(handlers, ours, distributions(name=PEER))
        if damaged and other is None:  # a fork of the package may have another name
            other = _owner(damaged, ours, distributions())
        return _problem(damaged, other)
    except (PackageNotFoundError, OSError, ValueError):  # the installation cannot be read
        return None


def _record(package: Distribution) -> Iterator[tuple[str, str]]:
    """Yield each path in a package's RECORD with its hash (``sha256=…``, or "").

    ``Distribution.files`` is not used, because it omits missing files since Python 3.12. Compiled
    files (``.pyc``) are skipped, because Python writes and removes them.
    """
    for line in (package.read_text("RECORD") or "").splitlines():
        path, _, rest = line.partition(",")  # CSV, but no path of the handlers needs quotes
        if path and not path.endswith(".pyc"):
            yield path, rest.partition(",")[0]


def _is_intact(package: Distribution, path: str, hash_: str) -> bool:
    """Return True if a file has the recorded hash, or exists if no hash is recorded."""
    file = cast("_Readable", package.locate_file(path))  # a Path, or the same in an archive
    try:
        content = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError, KeyError):  # KeyError: not in the archive
        return False
    name, _, expected = hash_.partition("=")
    if name != "sha256":
        return True
    found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
    return found.rstrip("=") == expected


def _owner(
    paths: Collection[str], ours: Distribution, packages: Iterable[Distribution]
) -> Distribution | None:
    """Return the first other package that has one of the paths, or None.

    Packages after aiohaul on ``sys.path`` are ignored, because they cannot replace a module.
    """
    order = [Path(entry).resolve() for entry in sys.path]
    no_later = set(order[: order.index(_root(ours)) + 1])
    for package in packages:
        shares = _root(package) in no_later and any(path in paths for path, _ in _record(package))
        if shares and package.metadata["Name"] != "aiohaul":
            return package
    return None


def _root(package: Distribution) -> Path:
    return Path(str(package.locate_file(""))).resolve()


def _problem(damaged: list[str], other: Distribution | None) -> str | None:
    reinstall = "`pip install --force-reinstall --no-deps aiohaul`"
    if damaged:
        damage = (
            f"{len(damaged)} files of aiohaul's handlers for Open Task Framework are missing or"
            f" changed, such as {damaged[0]}"
        )
    if other is None:
        return f"{damage}. Run {reinstall}" if damaged else None
    name = other.metadata["Name"]
    fix = f"Run `pip uninstall {name}`, then {reinstall}"
    if damaged:
        return f"{damage}, and {name} {other.version} has files of the same names. {fix}"
    return (
        f"{name} {other.version} has files of the same names as aiohaul's handlers for Open Task"
        f" Framework, so Open Task Framework may run the handlers of {name}, and uninstalling"
        f" {name} may remove aiohaul's files. {fix}"
    )
