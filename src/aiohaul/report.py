"""What a task did: the value that comes back up."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that did not get where it should.

    Attributes:
        source: the object or file, such as ``s3://bucket/key``, or the flag.
        error: why, in a sentence.
        kind: the name of the error's class.
    """

    source: str
    error: str
    kind: str

    @classmethod
    def of(cls, source: str, error: Exception) -> Failure:
        """The failure of ``source`` by ``error``."""
        return cls(source, str(error), type(error).__name__)


@dataclass(frozen=True, slots=True)
class DestinationReport:
    """What one destination has.

    Attributes:
        destination: its name, such as ``s3://bucket/dest/``.
        objects: how many objects it has, whole and verified.
        size: bytes of these.
        failures: one for each object (or flag) that it does not have.
        flag: the flag that was written, or None.
        seconds: from the start of the transfer until its last object or failure.
    """

    destination: str
    objects: int
    size: int
    failures: tuple[Failure, ...]
    flag: str | None
    seconds: float

    @property
    def ok(self) -> bool:
        """True if it has everything."""
        return not self.failures


@dataclass(frozen=True, slots=True)
class ActionReport:
    """What the post-copy action did to the sources.

    Attributes:
        action: ``move``, ``rename`` or ``delete``.
        objects: how many sources it was done to.
        failures: one for each source that it was not done to; that source is still there.
    """

    action: str
    objects: int
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class TransferReport:
    """What a transfer did.

    Attributes:
        found: how many sources matched.
        size: bytes of these.
        destinations: one report each, in the definition's order.
        action: the post-copy action's report; None if there was none to do.
        seconds: from start to end, the watch included.
    """

    found: int
    size: int
    destinations: tuple[DestinationReport, ...] = ()
    action: ActionReport | None = None
    seconds: float = 0.0
    type: Literal["transfer"] = field(default="transfer", kw_only=True)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The failures of all destinations and of the action."""
        copies = tuple(failure for each in self.destinations for failure in each.failures)
        return copies + (self.action.failures if self.action else ())

    @property
    def ok(self) -> bool:
        """True if every destination has everything and the action was done to every source."""
        return not self.failures

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values that JSON takes."""
        return {"ok": self.ok, **asdict(self)}


@dataclass(frozen=True, slots=True)
class TouchReport:
    """What an S3 execution did.

    Attributes:
        target: the object that was written, such as ``s3://bucket/key``.
        seconds: from start to end.
    """

    target: str
    seconds: float
    type: Literal["execution"] = field(default="execution", kw_only=True)
    ok: Literal[True] = field(default=True, kw_only=True)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values that JSON takes."""
        return asdict(self)


Report = TransferReport | TouchReport
