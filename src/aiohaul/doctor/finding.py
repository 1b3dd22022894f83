"""The results of the doctor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

#: ``ok`` is as on AWS. ``limited`` works with less safety or speed. ``failed`` needs an action of
#: the user. ``unknown`` has no result, for example because a permission is missing. ``skipped`` was
#: not tested.
Status = Literal["ok", "limited", "failed", "unknown", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one probe.

    Attributes:
        probe: the name of the probe.
        status: the status of the tested feature.
        found: the observed behaviour of the store.
        meaning: the consequence for transfers with aiohaul; "" if there is none.
        advice: the action for the user; "" if there is none.
        values: numbers and names of the result, for programs.
    """

    probe: str
    status: Status
    found: str
    meaning: str = ""
    advice: str = ""
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Remnant:
    """An object or an upload that the doctor wrote and could not delete.

    Attributes:
        uri: ``s3://bucket/key``.
        version: the version id of the object; "" without versioning.
        upload: the id of the multipart upload; "" for an object.
        reason: the reason why the deletion failed.
    """

    uri: str
    version: str
    upload: str
    reason: str

    def __str__(self) -> str:
        kind = f"upload {self.upload} of " if self.upload else ""
        version = f" (version {self.version})" if self.version else ""
        return f"{kind}{self.uri}{version}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """The results of all probes of the doctor.

    Attributes:
        target: ``s3://bucket/prefix``.
        endpoint: the URL of the store.
        findings: the findings, in the order of the probes.
        remnants: the objects and uploads that the doctor could not delete.
        seconds: the duration of the examination.
    """

    target: str
    endpoint: str
    findings: tuple[Finding, ...]
    remnants: tuple[Remnant, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """True if no finding is ``failed``, and the doctor deleted all of its objects."""
        return not self.remnants and all(each.status != "failed" for each in self.findings)

    def as_dict(self) -> dict[str, object]:
        """Return the examination as a JSON object."""
        return {**asdict(self), "ok": self.ok}
