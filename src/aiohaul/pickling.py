"""Base classes for errors that can be pickled and copied, and for classes that cannot."""

from __future__ import annotations

import pickle
from typing import NoReturn, SupportsIndex, TypeVar

from aiohaul.sensitive import without_queries


class PicklableError(Exception):
    """The base class of errors that can be copied and pickled, whatever their constructors take.

    A copy has the class, arguments, fields, notes and cause of the error, and no traceback. In the
    copy, a :class:`ForeignCauseError` replaces a cause that is not a PicklableError, because such a
    cause may hold connections or credentials, and the process that reads the pickle may not have
    the class of the cause.
    """

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args), _state(self)


B = TypeVar("B", bound=BaseException)
E = TypeVar("E", bound=PicklableError)


class ForeignCauseError(PicklableError):
    """An error with the text of a cause that cannot be pickled.

    Attributes:
        kind: the class name of the cause, such as ``botocore.exceptions.ClientError``.
    """

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


def without_tracebacks(error: E) -> E:
    """Return a copy of an error and its causes without tracebacks.

    A traceback would keep all objects in memory to which its frames refer.
    """
    copied = _copy(error)
    end: PicklableError = copied
    seen: set[int] = set()
    while isinstance(end.__cause__, PicklableError):
        cause = end.__cause__
        if id(cause) in seen:  # a cycle
            end.__cause__ = None
            break
        seen.add(id(cause))
        end.__cause__ = _copy(cause)
        end = end.__cause__
    return copied


def _copy(error: E) -> E:
    """Copy an error. ``copy.copy`` would use the reducers of tblib, which keep the traceback."""
    copied = _rebuild(type(error), error.args)
    copied.__setstate__(_state(error))
    return copied


class NotPicklable:
    """The base class of objects that belong to one event loop, and cannot be copied or pickled."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        """Refuse to copy or pickle the object.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"{type(self).__name__} cannot be copied or pickled, because it belongs to one event"
            " loop of one process. Pickle Settings and arguments instead, and make a Session in the"
            " other process"
        )


def _rebuild(cls: type[B], args: tuple[object, ...]) -> B:
    """Return a new error with these arguments, without calling the constructor."""
    error = cls.__new__(cls, *args)
    error.args = args
    return error


def _state(error: BaseException) -> dict[str, object]:
    """Return the attributes to set on the copy of an error: fields, notes and cause."""
    state = _fields(error)
    if error.__cause__ is not None:
        state["__cause__"] = _picklable(error.__cause__)
    return state


def _fields(error: BaseException) -> dict[str, object]:
    found = object.__getstate__(error)
    fields: dict[str, object] = {}
    for part in found if isinstance(found, tuple) else (found,):  # attributes, and slots
        if isinstance(part, dict):
            fields |= part
    return fields


def _picklable(cause: BaseException) -> BaseException | None:
    """Return a chain of causes in which a ForeignCauseError replaces each unpicklable cause."""
    foreign: list[BaseException] = []
    end: BaseException | None = cause
    while end is not None and not _is_picklable(end):
        if any(end is each for each in foreign):  # a cycle
            end = None
        else:
            foreign.append(end)
            end = end.__cause__
    for each in reversed(foreign):
        replaced = _foreign(each)
        replaced.__cause__ = end
        end = replaced
    return end


def _is_picklable(error: BaseException) -> bool:
    if not isinstance(error, PicklableError):
        return False
    try:
        pickle.dumps((type(error), error.args, _fields(error)))
    except Exception:  # noqa: BLE001  # an application's class may raise anything
        return False
    return True


def _foreign(error: BaseException) -> ForeignCauseError:
    cls = type(error)
    kind = f"{cls.__module__}.{cls.__qualname__}"
    try:
        text = without_queries(str(error))
    except Exception:  # noqa: BLE001  # as above
        text = f"{kind} (its str() raised an error)"
    replacement = ForeignCauseError(text, kind)
    for note in (*getattr(error, "__notes__", ()), f"({kind})"):
        replacement.add_note(str(note))
    return replacement
