"""Runs all probes of the doctor one after another, and then deletes their objects."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from aiohaul.aws.direct.serializer import OPERATIONS
from aiohaul.cancellation import in_own_task
from aiohaul.doctor import access, conditions, writes
from aiohaul.doctor.bench import Bench
from aiohaul.doctor.finding import Examination, Finding, Status
from aiohaul.doctor.needs import PERMISSIONS, Needs
from aiohaul.doctor.workspace import Workspace
from aiohaul.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    CredentialsError,
    HaulError,
    ServiceError,
    UnreachableError,
)
from aiohaul.s3.bucket_service import bound
from aiohaul.s3.objects import uri
from aiohaul.session import Session, clients_of

#: Called before a probe with its name, its number and the number of probes; called with a finding.
OnProbe = Callable[[str, int, int], None]
OnFinding = Callable[[Finding], None]


@dataclass(frozen=True, slots=True)
class Probe:
    """A test of one feature of the store.

    Attributes:
        name: the name of the probe and of its finding.
        run: tests the feature, and returns the finding.
    """

    name: str
    run: Callable[[Bench], Awaitable[Finding]]


_FIRST = Probe("bucket", access.bucket)
_LOOKS = (
    Probe("credentials", access.credentials),
    Probe("region", access.region),
    Probe("clock", access.clock),
    Probe("TLS", access.encryption),
    Probe("round trip", access.latency),
    Probe("read", access.read),
    Probe("versioning", access.versioning),
)
_LOCK = Probe("Object Lock", access.object_lock)
_WRITE = Probe("write", writes.write)
_WRITES = (
    Probe("ACL", writes.access_list),
    Probe("checksums", writes.checksums),
    Probe("uploads in parts", writes.multipart),
    Probe("copies in parts", writes.part_copies),
    Probe("open uploads", writes.open_uploads),
    Probe("tags", writes.tags),
    Probe("listings", writes.listing),
    Probe("keys below keys", writes.nested_keys),
    Probe("bulk deletion", writes.bulk_deletion),
    Probe("If-None-Match: put", conditions.put),
    Probe("If-None-Match: uploads in parts", conditions.complete),
    Probe("If-None-Match: copies", conditions.copy),
    Probe("If-Match: sources of copies", conditions.copy_source),
    Probe("If-Match: deletes", conditions.delete),
    Probe("If-Match: bulk deletes", conditions.bulk_delete),
    Probe("throughput", writes.throughput),
)
_WITHOUT_WRITES = Probe("uploads in parts", writes.missing_key)
_COUNT = 1 + len(_LOOKS) + 1 + 1 + len(_WRITES)
#: After one of these errors no other probe can run.
_FATAL = (BucketNotFoundError, CredentialsError, UnreachableError)


@dataclass
class _Findings:
    on_probe: OnProbe
    on_finding: OnFinding
    found: list[Finding] = field(default_factory=list)
    tried: int = 0

    def add(self, *findings: Finding) -> None:
        for each in findings:
            self.found.append(each)
            self.on_finding(each)

    async def run(self, probe: Probe, bench: Bench) -> HaulError | None:
        """Run a probe, and add its finding. Return the error if the probe failed, else None."""
        self.tried += 1
        self.on_probe(probe.name, self.tried, _COUNT)
        try:
            self.add(await probe.run(bench))
        except HaulError as error:
            self.add(_failure(probe.name, error))
            return error
        return None


@in_own_task
async def examine(
    session: Session,
    bucket: str,
    directory: str = "",
    *,
    needs: Needs | None = None,
    unlocked: bool = False,
    on_probe: OnProbe = lambda *_: None,
    on_finding: OnFinding = lambda _: None,
) -> Examination:
    """Test which operations a bucket, its store and the credentials allow.

    The doctor writes test objects below ``directory/.aiohaul-doctor-<random>/`` only, and deletes
    exactly these objects, by key and version, also if the call is cancelled. The doctor writes
    nothing if a default retention of Object Lock would prevent the deletion.

    AWS: GetCallerIdentity, HeadBucket, ListObjectsV2, GetBucketVersioning,
    GetObjectLockConfiguration, all operations of a transfer, and ListObjectVersions for the
    cleanup.

    Args:
        session: the Session whose connections and settings are used.
        bucket: the bucket.
        directory: without leading or trailing "/"; "" is the root of the bucket.
        needs: the permissions that a definition needs, its settings and the options of the bucket;
            None checks all permissions.
        unlocked: True writes test objects even if the doctor cannot check for a default retention.
        on_probe: called before each probe with its name, its number and the number of probes.
        on_finding: called with each finding as soon as its probe has ended.

    Returns:
        The findings. An error of a probe is a finding, and is not raised.

    Raises:
        SettingsError: there are no credentials, or no region.
        ServiceError: assuming the role failed.
    """
    began = time.monotonic()
    needs = needs or Needs()
    clients = clients_of(session)
    s3 = bound(await clients.service("s3", needs.settings), needs.options)
    prefix = f"{directory}/" if directory else ""
    workspace = Workspace(s3, bucket, prefix)
    bench = Bench(clients, clients.resolve(needs.settings), s3, bucket, prefix, workspace)
    findings = _Findings(on_probe, on_finding)
    if not isinstance(await findings.run(_FIRST, bench), _FATAL):
        try:
            await _run_all(bench, findings, unlocked=unlocked)
        finally:
            await _clean(workspace, findings)
        findings.add(_route(bench), *_permissions(bench, needs))
    return Examination(
        target=uri(bucket, prefix),
        endpoint=s3.url,
        findings=tuple(findings.found),
        remnants=tuple(workspace.remnants),
        seconds=time.monotonic() - began,
    )


async def _run_all(bench: Bench, findings: _Findings, *, unlocked: bool) -> None:
    for probe in _LOOKS:
        await findings.run(probe, bench)
    if reason := await _reason_not_to_write(bench, findings, unlocked=unlocked):
        findings.add(reason)
        return
    if await findings.run(_WRITE, bench) is None:
        for probe in _WRITES:
            await findings.run(probe, bench)
    else:
        await findings.run(_WITHOUT_WRITES, bench)


async def _reason_not_to_write(
    bench: Bench, findings: _Findings, *, unlocked: bool
) -> Finding | None:
    """Return a finding if a default retention may prevent the deletion of objects, else None."""
    failed = await findings.run(_LOCK, bench)
    if findings.found[-1].values.get("default_retention") is True:
        return Finding(
            "writes", "skipped", "a default retention would prevent the deletion of test objects"
        )
    # Object Lock needs versions, so a bucket without them has none.
    if failed is None or unlocked or bench.versioning == "Off":
        return None
    return Finding(
        "writes",
        "skipped",
        "the doctor cannot check whether a default retention would prevent the deletion of test"
        " objects",
        advice="Allow s3:GetBucketObjectLockConfiguration or s3:GetBucketVersioning; or use"
        " --unlocked, if the bucket has no default retention.",
    )


async def _clean(workspace: Workspace, findings: _Findings) -> None:
    if not workspace.is_used:
        return
    try:
        await workspace.clean()
    finally:
        if workspace.remnants:
            left = "; ".join(map(str, workspace.remnants))
            advice = "Delete these by hand: the directory contains nothing else."
            findings.add(Finding("cleanup", "failed", f"still there: {left}", "", advice))
        else:
            found = f"all that was written below {workspace.directory} is removed"
            findings.add(Finding("cleanup", "ok", found))


def _failure(name: str, error: HaulError) -> Finding:
    """Return the finding of a probe that raised an error."""
    if isinstance(error, AccessDeniedError):
        return Finding(name, "unknown", f"denied: {error}")
    if isinstance(error, ServiceError) and not isinstance(error, _FATAL):
        return Finding(name, "failed", f"{error.operation} does not work: {error}")
    return Finding(name, "failed", str(error))


def _route(bench: Bench) -> Finding:
    """Return a finding about the operations that the library sends without botocore."""
    direct = {each for each in bench.operations if bench.s3.takes_fast_path(each, bench.bucket)}
    usual = bench.operations & OPERATIONS.keys()  # the others are rare, and always botocore's
    values = {"direct": sorted(direct), "botocore": sorted(usual - direct)}
    if not usual - direct:
        return Finding("requests", "ok", "are sent directly", values=values)
    found = (
        "go through botocore"
        if not direct
        else f"some go through botocore: {', '.join(values['botocore'])}"
    )
    return Finding(
        "requests",
        "limited",
        found,
        "they take ten times the CPU",
        "To send them directly, unset AIOHAUL_DIRECT=0, proxies and special S3 settings.",
        values,
    )


def _permissions(bench: Bench, needs: Needs) -> Sequence[Finding]:
    return [_permission(each, purpose, bench, needs) for each, purpose in PERMISSIONS.items()]


def _permission(name: str, purpose: str, bench: Bench, needs: Needs) -> Finding:
    is_needed = needs.permissions is None or name in needs.permissions
    if needs.permissions is not None:
        role = needs.permissions.get(name)
        purpose = f"the definition needs it {role}" if role else "the definition does not need it"
    if name in bench.denied:
        found = f"denied; {purpose}" if not is_needed else "denied"
        advice = f"Allow {name} to these credentials." if is_needed else ""
        without: Status = "limited" if needs.permissions is None else "failed"
        return Finding(
            name, without if is_needed else "ok", found, purpose if is_needed else "", advice
        )
    if name in bench.allowed:
        return Finding(name, "ok", f"allowed, {purpose}")
    return Finding(name, "unknown", f"not tried; {purpose}")
