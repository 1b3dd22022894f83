"""What a running task tells whoever asked to be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Watching:
    """A watch looked, found nothing that counts, and will look again.

    Attributes:
        where: the directory, such as ``s3://bucket/src/``.
        seconds_left: until the watch's timeout.
        failure: why it could not look (throttled, 5xx, no answer); None if it could.
    """

    where: str
    seconds_left: float
    failure: Exception | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The sources are settled; copying starts.

    Attributes:
        objects: how many.
        size: bytes of all of them.
        destinations: the names by which later events speak of the destinations.
    """

    objects: int
    size: int
    destinations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Copied:
    """One object is at one destination, whole and verified.

    Attributes:
        source: where it came from.
        target: where it is now.
        destination: the destination's name.
        size: bytes.
        kept: an interrupted run had copied it.
    """

    source: str
    target: str
    destination: str
    size: int
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """One object did not get to one destination, or its post-copy action failed.

    Attributes:
        source: where it is.
        destination: the destination's name, or the action's.
        error: why.
    """

    source: str
    destination: str
    error: Exception


@dataclass(frozen=True, slots=True)
class Flagged:
    """A destination is complete, and its flag is written.

    Attributes:
        target: the flag.
        destination: the destination's name.
    """

    target: str
    destination: str


@dataclass(frozen=True, slots=True)
class Acted:
    """The post-copy action is done for one source.

    Attributes:
        action: ``move``, ``rename`` or ``delete``.
        source: what it was done to.
    """

    action: str
    source: str


Event = Watching | Found | Copied | Failed | Flagged | Acted

#: Called on the event loop for every event: it must return at once. What it raises ends the task.
OnProgress = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Do nothing: the default of ``on_progress``."""
