"""Finds the definitions of a batch's tasks in a mapping or in a folder."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Protocol, cast

from aiohaul.errors import DefinitionError, UnsupportedError
from aiohaul.resource_limits import os_error_reason
from aiohaul.storage.private_files import file_type

#: A mapping of definitions by task_id, or a folder that contains ``{task_id}.json`` at any depth.
Tasks = Mapping[str, Mapping[str, object]] | Path

_TEMPLATE = re.compile(r"\{\{|\{%")
_SUFFIX = ".json"
#: The suffix of a definition that is a template, which Open Task Framework renders.
_TEMPLATE_SUFFIX = ".json.j2"
#: The maximum number of files in an error message.
_MAX_LISTED = 3


class DefinitionSource(Protocol):
    """Finds definitions by task_id."""

    def find(self, task_id: str) -> Mapping[str, object]:
        """Return the definition of a task, without checking the definition.

        Raises:
            DefinitionError: there is no definition, there are several, or the definition cannot be
                read.
            UnsupportedError: the definition is a template.
        """


def definition_source(tasks: Tasks) -> DefinitionSource:
    """Return an object that finds the definitions in ``tasks``. Blocks while it lists a folder.

    Raises:
        DefinitionError: the folder does not exist, or cannot be read.
    """
    return MappingSource(tasks) if isinstance(tasks, Mapping) else FolderSource(Path(tasks))


class MappingSource:
    """Finds definitions in a mapping."""

    def __init__(self, tasks: Mapping[str, Mapping[str, object]]) -> None:
        self._tasks = tasks

    def find(self, task_id: str) -> Mapping[str, object]:
        """See :class:`DefinitionSource`."""
        try:
            return self._tasks[task_id]
        except KeyError:
            problem = (
                "there is no definition of this task. Pass 'tasks', a mapping or a folder that"
                " contains the definition"
            )
            raise DefinitionError("", problem) from None


class FolderSource:
    """Finds definitions below a folder. Hidden files and folders are ignored."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, list[PurePosixPath]] = {}
        try:
            if file_type(folder) != stat.S_IFDIR:
                raise DefinitionError("", f"the folder of the tasks, {folder}, does not exist")
            os.listdir(folder)  # noqa: PTH208  # checks only that the folder is readable
        except OSError as error:
            problem = f"the folder of the tasks, {folder}, cannot be read: {error.strerror}"
            raise DefinitionError("", problem) from error
        self._unreadable: list[OSError] = []
        for file in sorted(_files_below(folder, self._unreadable.append)):
            self._files.setdefault(file.name, []).append(file)

    def find(self, task_id: str) -> Mapping[str, object]:
        """See :class:`DefinitionSource`. A task_id may contain folders: ``load/orders``."""
        found = [
            *self._files_named(task_id, _SUFFIX),
            *self._files_named(task_id, _TEMPLATE_SUFFIX),
        ]
        if not found:
            raise DefinitionError("", self._not_found_message(task_id))
        if len(found) > 1:
            raise DefinitionError(
                "", f"{self._folder} contains several files of that name: {_format_files(found)}"
            )
        if found[0].name.endswith(_TEMPLATE_SUFFIX):
            raise UnsupportedError("", _template_message(str(found[0])))
        return read_definition(self._folder / found[0])

    def _files_named(self, task_id: str, suffix: str) -> list[PurePosixPath]:
        wanted = PurePosixPath(f"{task_id}{suffix}").parts
        named = self._files.get(wanted[-1], ()) if task_id else ()
        return [file for file in named if file.parts[-len(wanted) :] == wanted]

    def _not_found_message(self, task_id: str) -> str:
        if task_id.startswith("/") or ".." in PurePosixPath(task_id).parts:
            return f"a task_id is a name, or a path below {self._folder}; this one leads outside"
        problem = f"there is no {task_id}{_SUFFIX} in {self._folder}"
        end = f"{PurePosixPath(task_id).name}{_SUFFIX}" if task_id else ""
        similar = [
            file
            for name, files in self._files.items()
            if end and name.removesuffix(".j2").endswith(end)
            for file in files
        ]
        if self._unreadable:
            first = self._unreadable[0]
            problem += f", and {first.filename} cannot be read: {first.strerror}"
        return f"{problem}; did you mean {_format_files(similar)}?" if similar else problem


def _files_below(folder: Path, on_error: Callable[[OSError], None]) -> Iterator[PurePosixPath]:
    """Yield the paths that may be definitions, relative to the folder.

    Symbolic links are followed, except a link to a folder that contains the link.
    """
    ancestors: dict[str, frozenset[str]] = {}
    for current, folders, files in os.walk(folder, onerror=on_error, followlinks=True):
        own = ancestors.pop(current, frozenset()) | {os.path.realpath(current)}
        folders[:] = [
            each
            for each in folders
            if not each.startswith(".") and os.path.realpath(os.path.join(current, each)) not in own  # noqa: PTH118  # many
        ]
        ancestors |= {os.path.join(current, each): own for each in folders}  # noqa: PTH118  # as above
        for name in (*files, *folders):  # a folder with such a name fails when it is read
            if name.endswith((_SUFFIX, _TEMPLATE_SUFFIX)) and not name.startswith("."):
                yield PurePosixPath(os.path.relpath(current, folder), name)


def read_definition(file: Path) -> Mapping[str, object]:
    """Read the definition in a file, without checking the definition. Blocks.

    Raises:
        DefinitionError: the file cannot be read, or is not JSON.
        UnsupportedError: the file is a template.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")  # some editors write a byte order mark
    except OSError as error:
        raise DefinitionError(
            "", f"the file {file} cannot be read: {os_error_reason(error)}"
        ) from error
    except ValueError as error:
        raise DefinitionError("", f"the file {file} is not JSON: {error}") from error
    try:
        return cast("Mapping[str, object]", json.loads(text))  # parsers refuse other values
    except (ValueError, RecursionError) as error:
        if _TEMPLATE.search(text):
            raise UnsupportedError("", _template_message(str(file))) from error
        raise DefinitionError("", f"the file {file} is not JSON: {error}") from error


def _template_message(name: str) -> str:
    return (
        f"{name} is a template, which only Open Task Framework renders: run the batch with"
        " task-run, or render the template first"
    )


def _format_files(files: list[PurePosixPath]) -> str:
    more = ", …" if len(files) > _MAX_LISTED else ""
    return f"{', '.join(map(str, files[:_MAX_LISTED]))}{more}"
