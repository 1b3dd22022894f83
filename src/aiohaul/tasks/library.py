"""Where the definitions of a batch's tasks are: a mapping, or a folder of files."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from aiohaul.errors import DefinitionError, UnsupportedError
from aiohaul.s3.private import file_type
from aiohaul.shortage import explained_shortage

#: Definitions by task_id, or the folder that has them as ``{task_id}.json``, at any depth.
Tasks = Mapping[str, Mapping[str, Any]] | Path

_TEMPLATE = re.compile(r"\{\{|\{%")
_SUFFIX = ".json"
#: A definition that Open Task Framework fills in before it reads it.
_TEMPLATE_SUFFIX = ".json.j2"
#: How many files a refusal names.
_NAMED = 3


class Library(Protocol):
    """Finds definitions."""

    def find(self, task_id: str) -> Any:
        """The definition of a task, not yet checked.

        Raises:
            DefinitionError: there is none, or more than one, or it cannot be read.
            UnsupportedError: it is a template.
        """


def library(tasks: Tasks) -> Library:
    """What finds definitions there. A folder is looked through once, here: it blocks."""
    return Given(tasks) if isinstance(tasks, Mapping) else Folder(Path(tasks))


class Given:
    """The definitions of a mapping."""

    def __init__(self, tasks: Mapping[str, Mapping[str, Any]]) -> None:
        self._tasks = tasks

    def find(self, task_id: str) -> Any:
        """See Library."""
        try:
            return self._tasks[task_id]
        except KeyError:
            problem = "no definition of it was given: 'tasks' takes a mapping, or a folder"
            raise DefinitionError("", problem) from None


class Folder:
    """The definitions below a folder. Hidden files and folders are left out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, list[PurePosixPath]] = {}
        try:
            if file_type(folder) != stat.S_IFDIR:
                raise DefinitionError("", f"there is no folder {folder} to find the tasks in")
            os.listdir(folder)  # noqa: PTH208  # only whether it can be
        except OSError as error:
            problem = f"the folder {folder} to find the tasks in cannot be read: {error.strerror}"
            raise DefinitionError("", problem) from error
        self._unread: list[OSError] = []
        for file in sorted(_files_below(folder, self._unread.append)):
            self._files.setdefault(file.name, []).append(file)

    def find(self, task_id: str) -> Any:
        """See Library. A task_id may name a folder before the name: ``load/orders``."""
        found = [*self._called(task_id, _SUFFIX), *self._called(task_id, _TEMPLATE_SUFFIX)]
        if not found:
            raise DefinitionError("", self._nothing(task_id))
        if len(found) > 1:
            raise DefinitionError(
                "", f"more than one file has that name in {self._folder}: {_list(found)}"
            )
        if found[0].name.endswith(_TEMPLATE_SUFFIX):
            raise UnsupportedError("", _unfilled(str(found[0])))
        return read(self._folder / found[0])

    def _called(self, task_id: str, suffix: str) -> list[PurePosixPath]:
        wanted = PurePosixPath(f"{task_id}{suffix}").parts
        named = self._files.get(wanted[-1], ()) if task_id else ()
        return [file for file in named if file.parts[-len(wanted) :] == wanted]

    def _nothing(self, task_id: str) -> str:
        if task_id.startswith("/") or ".." in PurePosixPath(task_id).parts:
            return f"a task_id is a name, or a path below {self._folder}: this one leads out of it"
        problem = f"there is no {task_id}{_SUFFIX} in {self._folder}"
        end = f"{PurePosixPath(task_id).name}{_SUFFIX}" if task_id else ""
        similar = [
            file
            for name, files in self._files.items()
            if end and name.removesuffix(".j2").endswith(end)
            for file in files
        ]
        if self._unread:
            first = self._unread[0]
            problem += f", and {first.filename} cannot be read: {first.strerror}"
        return f"{problem}; did you mean {_list(similar)}?" if similar else problem


def _files_below(folder: Path, on_error: Callable[[OSError], None]) -> Iterator[PurePosixPath]:
    """What may be a definition. Links are followed, but not back to where they stand."""
    above: dict[str, frozenset[str]] = {}
    for place, folders, files in os.walk(folder, onerror=on_error, followlinks=True):
        around = above.pop(place, frozenset()) | {os.path.realpath(place)}
        folders[:] = [
            each
            for each in folders
            if not each.startswith(".")
            and os.path.realpath(os.path.join(place, each)) not in around  # noqa: PTH118  # many
        ]
        above |= {os.path.join(place, each): around for each in folders}  # noqa: PTH118  # as above
        for name in (*files, *folders):  # a folder of that name is no file, and is to be told of
            if name.endswith((_SUFFIX, _TEMPLATE_SUFFIX)) and not name.startswith("."):
                yield PurePosixPath(os.path.relpath(place, folder), name)


def read(file: Path) -> Any:
    """The definition in a file, not yet checked.

    Raises:
        DefinitionError: it cannot be read, or is not JSON.
        UnsupportedError: it is a template.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")  # some editors put a byte order mark first
    except OSError as error:
        raise DefinitionError("", f"it cannot be read: {explained_shortage(error)}") from error
    except ValueError as error:
        raise DefinitionError("", f"it is not JSON: {error}") from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if _TEMPLATE.search(text):
            raise UnsupportedError("", _unfilled("it")) from error
        raise DefinitionError("", f"it is not JSON: {error}") from error


def _unfilled(what: str) -> str:
    return (
        f"{what} is a template: Open Task Framework fills these in. Run the batch with its"
        " task-run, or fill it in first"
    )


def _list(files: list[PurePosixPath]) -> str:
    more = ", …" if len(files) > _NAMED else ""
    return f"{', '.join(map(str, files[:_NAMED]))}{more}"
