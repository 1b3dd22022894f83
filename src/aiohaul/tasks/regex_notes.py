"""Finds the regexes of a definition that Python's matcher may take long for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from aiohaul.regexes.bounded import bounded
from aiohaul.tasks.batch_definition import Batch, parse_any
from aiohaul.tasks.definition_source import Tasks
from aiohaul.tasks.schema import Path, format_path

#: The keys whose values are regexes.
_KEYS = frozenset({"fileRegex", "contentRegex", "pattern"})
#: From this exponent on, a name of ordinary length can take long.
_SLOW = 3


def all_slow_regexes(definition: Mapping[str, object], tasks: Tasks | None) -> Iterator[str]:
    """Yield the notes of a valid definition and, for a batch, of each definition that it reaches.

    Blocks while it reads files. The note of a task's definition begins with the task_id.

    Args:
        definition: a transfer, an execution or a batch.
        tasks: the definitions of a batch's tasks, as for :func:`aiohaul.run`.
    """
    yield from slow_regexes(definition)
    parsed = parse_any(definition, tasks)
    if isinstance(parsed, Batch):
        seen: set[str] = set()
        yield from _of_tasks(parsed, seen)


def _of_tasks(batch: Batch, seen: set[str]) -> Iterator[str]:
    for each in batch.tasks:
        if each.task_id not in seen:
            seen.add(each.task_id)
            yield from (f"{each.task_id}: {note}" for note in slow_regexes(each.definition))
            if isinstance(each.task, Batch):
                yield from _of_tasks(each.task, seen)


def slow_regexes(definition: object, path: Path = ()) -> Iterator[str]:
    """Yield a note for each regex of a valid definition that is not plainly linear.

    Args:
        definition: the definition, or a part of it.
        path: the path of the part in the definition.
    """
    if isinstance(definition, Mapping):
        for key, value in definition.items():
            if key in _KEYS and isinstance(value, str):
                growth = bounded(re.compile(value)).growth
                if growth.degree is None or growth.degree >= _SLOW:
                    yield (
                        f"{format_path((*path, key))}: in Python's matcher, the time of the regex"
                        f" {value!r} {growth}. A slower matcher with a bound is used for names that"
                        " would take long. Simplify the regex: leave out repetitions that contain"
                        " or follow a repetition of the same characters"
                    )
            else:
                yield from slow_regexes(value, (*path, key))
    elif isinstance(definition, list | tuple):
        for index, value in enumerate(definition):
            yield from slow_regexes(value, (*path, index))
