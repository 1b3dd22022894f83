"""Finds out whether otf-addons-aws stands in the way: it installs files of the same names."""

from __future__ import annotations

import base64
import hashlib
import itertools
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import Any

#: The addon whose modules aiohaul replaces.
PEER = "otf-addons-aws"

#: Not a lock: a fork would inherit it held.
_calls = itertools.count()


def warn_once() -> None:
    """Warn if other handlers than aiohaul's are installed, or may soon be.

    Only the first call in a process looks; a process that is forked after it does not look again.

    Warns:
        UserWarning: another package has the same files, or files are missing or changed. The
            sentence says what to do.
    """
    if next(_calls) == 0 and (problem := find_problem()):
        warnings.warn(problem, stacklevel=2)


def find_problem() -> str | None:
    """Compare the handlers that are installed with what aiohaul's installer wrote down.

    Reads some 25 small files.

    Returns:
        What is wrong and what to do. None if nothing is, or if nobody can know: in an editable
        install, in a frozen application, where no RECORD was kept, or where it belongs to another
        copy of aiohaul than this one.
    """
    try:
        ours = distribution("aiohaul")
        if _root(ours).joinpath("aiohaul/installed.py").resolve() != Path(__file__).resolve():
            return None
        handlers = {path: hash_ for path, hash_ in _record(ours) if path.startswith("opentaskpy/")}
        lost = [path for path, hash_ in handlers.items() if not _is_intact(ours, path, hash_)]
        other = _owner(handlers, ours, distributions(name=PEER))
        if lost and other is None:  # by another name, perhaps: this reads what all packages own
            other = _owner(lost, ours, distributions())
        return _sentence(lost, other)
    except (PackageNotFoundError, OSError, ValueError):  # the installation cannot be read
        return None


def _record(package: Distribution) -> Iterator[tuple[str, str]]:
    """Paths that an installer wrote down, each with its hash (``sha256=…``, or "").

    Not ``Distribution.files``: from Python 3.12 on it leaves out what is missing. Compiled files
    are left out here: they come and go.
    """
    for line in (package.read_text("RECORD") or "").splitlines():
        path, _, rest = line.partition(",")  # none of the handlers' paths is quoted
        if path and not path.endswith(".pyc"):
            yield path, rest.partition(",")[0]


def _is_intact(package: Distribution, path: str, hash_: str) -> bool:
    """Whether a file is the one that was installed; without a hash, whether there is one."""
    file: Any = package.locate_file(path)  # in an archive, no os.PathLike
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
    """The first other package with one of the paths, in a place that Python searches no later."""
    order = [Path(entry).resolve() for entry in sys.path]
    no_later = set(order[: order.index(_root(ours)) + 1])
    for package in packages:
        has_some = _root(package) in no_later and any(path in paths for path, _ in _record(package))
        if has_some and package.metadata["Name"] != "aiohaul":
            return package
    return None


def _root(package: Distribution) -> Path:
    return Path(str(package.locate_file(""))).resolve()


def _sentence(lost: list[str], other: Distribution | None) -> str | None:
    reinstall = "`pip install --force-reinstall --no-deps aiohaul`"
    if lost:
        what = (
            f"{len(lost)} files of aiohaul's handlers for Open Task Framework are missing or"
            f" changed, such as {lost[0]}"
        )
    if other is None:
        return f"{what}: run {reinstall}" if lost else None
    name = other.metadata["Name"]
    cure = f"run `pip uninstall {name}`, then {reinstall}"
    if lost:
        return f"{what}; {name} {other.version} has files of the same names: {cure}"
    return (
        f"{name} {other.version} has files of the same names as aiohaul's handlers for Open Task"
        " Framework, which may run either; uninstalling it alone may remove aiohaul's:"
        f" {cure}"
    )
