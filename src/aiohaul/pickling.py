"""What pickle and copy make of errors, and of what belongs to one process."""

from __future__ import annotations

import pickle
from typing import Any, NoReturn, SupportsIndex

from aiohaul.hidden import without_queries


class PicklableError(Exception):
    """An error whose copies and pickles are equal to it, whatever its constructor takes.

    They have its class, arguments, fields, notes and cause, and no traceback. A cause that is not
    such an error becomes a :class:`ForeignCauseError`: it may hold connections or credentials, and
    its class need not exist where the pickle is read.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.args), _state(self)


class ForeignCauseError(PicklableError):
    """Stands for the cause of an error that was copied or pickled, with the text of that cause.

    Attributes:
        kind: the name of its class, such as ``botocore.exceptions.ClientError``.
    """

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


class NotPicklable:
    """What belongs to one event loop of one process: it can be neither copied nor pickled."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        """Refuse.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"{type(self).__name__} cannot be copied or pickled: it belongs to one event loop of"
            " one process. Send the Settings and what is to be done, and make another one there"
        )


def _rebuilt(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """An error without its fields, made without its constructor."""
    error = cls.__new__(cls, *args)
    error.args = args
    return error


def _state(error: BaseException) -> dict[str, Any]:
    """What is set again on the rebuilt error: its fields, notes among them, and its cause."""
    state = _fields(error)
    if error.__cause__ is not None:
        state["__cause__"] = _picklable(error.__cause__)
    return state


def _fields(error: BaseException) -> dict[str, Any]:
    found: Any = object.__getstate__(error)
    fields, slots = found if isinstance(found, tuple) else (found, None)
    return {**(fields or {}), **(slots or {})}


def _picklable(cause: BaseException) -> BaseException | None:
    """A cause and those behind it, with a text in place of each that may not be picklable."""
    foreign: list[BaseException] = []
    end: BaseException | None = cause
    while end is not None and not _is_picklable(end):
        if any(end is each for each in foreign):  # a circle
            end = None
        else:
            foreign.append(end)
            end = end.__cause__
    for each in reversed(foreign):
        text = _text(each)
        text.__cause__ = end
        end = text
    return end


def _is_picklable(error: BaseException) -> bool:
    if not isinstance(error, PicklableError):
        return False
    try:
        pickle.dumps((type(error), error.args, _fields(error)))
    except Exception:  # noqa: BLE001  # those of an application's own class may raise anything
        return False
    return True


def _text(error: BaseException) -> ForeignCauseError:
    cls = type(error)
    kind = f"{cls.__module__}.{cls.__qualname__}"
    try:
        text = without_queries(str(error))
    except Exception:  # noqa: BLE001  # as above
        text = f"an error whose text raises one: {kind}"
    made = ForeignCauseError(text, kind)
    for note in (*getattr(error, "__notes__", ()), f"({kind})"):
        made.add_note(str(note))
    return made
