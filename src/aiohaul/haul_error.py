"""Defines HaulError in a module of its own, because reports and errors import each other."""

from __future__ import annotations

from aiohaul.pickling import PicklableError


class HaulError(PicklableError):
    """The base class of all errors that aiohaul raises.

    A copy or pickle of an error keeps the fields, the notes and the cause. In the copy, an error
    with the text of the cause replaces a cause that is not a HaulError.
    """
