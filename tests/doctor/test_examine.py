"""The doctor: what it finds, and that it leaves nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

import aiohaul
from aiohaul.doctor import workspace
from aiohaul.doctor.examine import examine
from aiohaul.doctor.finding import Examination, Finding
from aiohaul.doctor.needs import PERMISSIONS, Needs
from tests.support.gateway import Gateway, gateway
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store, store
from tests.support.stores import asked_for
from tests.support.stores_fixtures import Started

#: What each store has, where it is not ``ok``.
DIFFERENT = {
    "moto": {
        "checksums": "limited",
        "If-None-Match: copies": "limited",
        "If-Match: sources of copies": "limited",
        "If-Match: bulk deletes": "limited",
    },
    "rclone": {
        "checksums": "limited",
        "copies in parts": "limited",
        "tags": "limited",
        "keys below keys": "limited",
        "If-None-Match: put": "limited",
        "If-None-Match: uploads in parts": "limited",
        "If-None-Match: copies": "limited",
        "If-Match: sources of copies": "limited",
        "If-Match: deletes": "limited",
        "If-Match: bulk deletes": "limited",
        "s3:GetObjectTagging": "unknown",
    },
    "seaweedfs": {},
}


def session_on(url: str, **more: Any) -> aiohaul.Session:
    return aiohaul.Session(
        region=REGION, endpoint_url=url, access_key_id=KEY, secret_access_key=SECRET, **more
    )


async def examined(url: str, bucket: str, directory: str = "in", **more: Any) -> Examination:
    async with session_on(url) as session:
        return await examine(session, bucket, directory, **more)


def by_name(found: Examination) -> dict[str, Finding]:
    return {each.probe: each for each in found.findings}


@pytest.fixture(params=["moto", "rclone", *asked_for()])
async def any_s3(request: pytest.FixtureRequest, started_store: Started) -> AsyncIterator[Store]:
    name: str = request.param
    url = (
        request.getfixturevalue(f"{name}_url")
        if name in ("moto", "rclone")
        else started_store(name).url
    )
    async with store(url, name) as made:
        yield made


async def test_findings_are_those_of_the_store(any_s3: Store) -> None:
    bucket = await any_s3.bucket()
    await any_s3.put(bucket, "in/there", b"x")
    found = await examined(any_s3.url, bucket)
    findings = json.loads(json.dumps(found.as_dict()))["findings"]
    assert {"probe", "status", "found"} <= findings[0].keys()
    statuses = {each.probe: each.status for each in found.findings if each.status != "ok"}
    if any_s3.kind in DIFFERENT:
        assert statuses == DIFFERENT[any_s3.kind]
    assert found.ok
    assert found.remnants == ()
    assert await any_s3.contents(bucket) == {"in/there": b"x"}
    assert await any_s3.uploads(bucket) == []
    assert {each.probe for each in found.findings} > PERMISSIONS.keys()


async def test_each_finding_and_each_probe_is_told_as_it_comes(moto_s3: Store) -> None:
    told: list[str] = []
    bucket = await moto_s3.bucket()
    found = await examined(
        moto_s3.url,
        bucket,
        on_probe=lambda name, number, total: told.append(f"{number}/{total} {name}"),
        on_finding=lambda finding: told.append(finding.probe),
    )
    assert told[:4] == ["1/26 bucket", "bucket", "2/26 credentials", "credentials"]
    assert [each for each in told if "/26 " not in each] == [each.probe for each in found.findings]
    assert "26/26 throughput" in told


async def test_what_others_put_into_its_directory_stays(
    moto_s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohaul.doctor.workspace.secrets.token_hex", lambda _: "known")
    bucket = await moto_s3.bucket()
    directory = "in/.aiohaul-doctor-known"
    await moto_s3.put(bucket, f"{directory}/foreign", b"x")
    await moto_s3.client.create_multipart_upload(Bucket=bucket, Key=f"{directory}/foreign")
    found = await examined(moto_s3.url, bucket)
    assert found.ok
    assert await moto_s3.contents(bucket) == {f"{directory}/foreign": b"x"}
    assert [each["Key"] for each in await moto_s3.uploads(bucket)] == [f"{directory}/foreign"]


async def versions(s3: Store, bucket: str) -> list[tuple[str, str]]:
    page = await s3.client.list_object_versions(Bucket=bucket)
    both = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
    return sorted((each["Key"], each["VersionId"]) for each in both)


async def with_versions(s3: Store) -> str:
    bucket = await s3.bucket()
    await s3.client.put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    await s3.put(bucket, "in/there", b"1")
    await s3.put(bucket, "in/there", b"2")
    await s3.client.delete_object(Bucket=bucket, Key="in/there")
    return bucket


@pytest.mark.parametrize("hidden", [False, True], ids=["", "and the state is not told"])
async def test_versions_are_removed_and_no_delete_marker_stays(
    proxied: tuple[Gateway, Store], hidden: bool
) -> None:
    way, s3 = proxied
    bucket = await with_versions(s3)
    before = await versions(s3, bucket)
    if hidden:
        way.rule(r"\?versioning", status=403, code="AccessDenied")
    found = await examined(way.url, bucket, unlocked=hidden)
    assert found.remnants == ()
    assert by_name(found)["versioning"].status == ("unknown" if hidden else "ok")
    assert way.count("PUT .*first") == 1
    assert await versions(s3, bucket) == before


async def locked(s3: Store) -> str:
    bucket = f"locked-{id(s3)}"
    where = {"LocationConstraint": REGION}
    await s3.client.create_bucket(
        Bucket=bucket, CreateBucketConfiguration=where, ObjectLockEnabledForBucket=True
    )
    await s3.client.put_object_lock_configuration(
        Bucket=bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 7}},
        },
    )
    return bucket


@pytest.mark.parametrize("unlocked", [False, True])
async def test_nothing_is_written_under_a_default_retention(
    proxied: tuple[Gateway, Store], unlocked: bool
) -> None:
    way, s3 = proxied
    bucket = await locked(s3)
    found = by_name(await examined(way.url, bucket, unlocked=unlocked))
    assert found["Object Lock"].found == "objects are kept for 7 days (COMPLIANCE)"
    assert found["writes"].status == "skipped"
    assert found["s3:PutObject"].status == "unknown"
    assert way.count("^(PUT|POST /.|COPY|DELETE)") == 0
    assert await versions(s3, bucket) == []


async def test_nothing_is_written_where_a_default_retention_may_be(
    proxied: tuple[Gateway, Store],
) -> None:
    way, s3 = proxied
    bucket = await with_versions(s3)
    way.rule(r"\?object-lock", status=403, code="AccessDenied")
    found = by_name(await examined(way.url, bucket))
    assert found["writes"].status == "skipped"
    assert "--unlocked" in found["writes"].advice
    assert way.count("^(PUT|POST /.|COPY|DELETE)") == 0
    assert by_name(await examined(way.url, bucket, unlocked=True))["write"].status == "ok"


async def test_without_versions_there_is_no_lock(proxied: tuple[Gateway, Store]) -> None:
    way, s3 = proxied
    way.rule(r"\?object-lock", status=403, code="AccessDenied")
    found = by_name(await examined(way.url, await s3.bucket()))
    assert found["Object Lock"].status == "unknown"
    assert found["write"].status == "ok"


async def test_what_cannot_be_removed_is_listed(proxied: tuple[Gateway, Store]) -> None:
    way, s3 = proxied
    bucket = await s3.bucket()
    way.rule("^(DELETE|POST .*delete)", status=403, code="AccessDenied")
    found = await examined(way.url, bucket)
    assert not found.ok
    there = set(await s3.keys(bucket))
    uploads = {each["UploadId"] for each in await s3.uploads(bucket)}
    assert {each.uri for each in found.remnants if not each.upload} >= {
        f"s3://{bucket}/{key}" for key in there
    }
    assert {each.upload for each in found.remnants if each.upload} == uploads
    assert uploads
    cleanup = by_name(found)["cleanup"]
    assert cleanup.status == "failed"
    assert all(key in cleanup.found for key in there)
    assert by_name(found)["s3:DeleteObject"].status == "limited"


@pytest.mark.parametrize("number", [1, 5, 10, 11, 13, 15, 16, 19, 22, 25, 26])
async def test_cancelled_at_a_probe_it_leaves_nothing(moto_s3: Store, number: int) -> None:
    bucket = await moto_s3.bucket()

    def stop(_: str, tried: int, __: int) -> None:
        if tried == number:
            examining.cancel()

    examining = asyncio.ensure_future(examined(moto_s3.url, bucket, on_probe=stop))
    with pytest.raises(asyncio.CancelledError):
        await examining
    assert await moto_s3.keys(bucket) == []
    assert await moto_s3.uploads(bucket) == []


@pytest.mark.parametrize("match", ["PUT .*first", "PUT .*large", "POST .*parts.uploads", "COPY"])
async def test_cancelled_during_a_write_it_leaves_nothing(
    proxied: tuple[Gateway, Store], match: str
) -> None:
    way, s3 = proxied
    bucket = await s3.bucket()
    late = way.rule(match, late=True, times=1)
    examining = asyncio.ensure_future(examined(way.url, bucket))
    async with asyncio.timeout(60):
        await late.reached.wait()
    examining.cancel()
    asyncio.get_running_loop().call_later(0.1, late.go.set)
    with pytest.raises(asyncio.CancelledError):
        await examining
    assert await s3.keys(bucket) == []
    assert await s3.uploads(bucket) == []


READ_ONLY = "^(PUT|COPY|DELETE|POST /.)"


async def test_credentials_that_only_read(proxied: tuple[Gateway, Store]) -> None:
    way, s3 = proxied
    bucket = await s3.bucket()
    await s3.put(bucket, "in/there", b"x")
    way.rule(READ_ONLY, status=403, code="AccessDenied")
    needed = Needs({"s3:ListBucket": "as the source", "s3:GetObject": "as the source"})
    found = await examined(way.url, bucket, needs=needed)
    named = by_name(found)
    assert found.ok
    assert named["s3:GetObject"].found == "allowed, the definition needs it as the source"
    assert named["s3:PutObject"].found == "denied; the definition does not need it"
    assert "cleanup" not in named
    writes = Needs({"s3:PutObject": "as a destination"})
    found = await examined(way.url, bucket, needs=writes)
    assert not found.ok
    assert by_name(found)["s3:PutObject"].status == "failed"
    assert by_name(found)["s3:PutObject"].advice == "Allow s3:PutObject to these credentials."


@pytest.mark.parametrize(
    ("match", "permission"),
    [
        (r"GET .*tagging", "s3:GetObjectTagging"),
        (r"GET .*uploadId", "s3:ListMultipartUploadParts"),
        (r"GET .*\?uploads", "s3:ListBucketMultipartUploads"),
        (r"DELETE .*aborted\?uploadId", "s3:AbortMultipartUpload"),
    ],
)
async def test_permission_that_is_missing(
    proxied: tuple[Gateway, Store], match: str, permission: str
) -> None:
    way, s3 = proxied
    way.rule(match, status=403, code="AccessDenied", times=1)
    found = by_name(await examined(way.url, await s3.bucket()))
    assert [name for name in PERMISSIONS if found[name].status != "ok"] == [permission]
    assert found[permission].found == "denied"


async def test_acl_that_is_refused(proxied: tuple[Gateway, Store]) -> None:
    way, s3 = proxied
    way.rule("PUT .*/acl", status=400, code="AccessControlListNotSupported")
    found = await examined(way.url, await s3.bucket())
    assert not found.ok
    assert "disableBucketOwnerControlACL" in by_name(found)["ACL"].advice


@pytest.mark.parametrize(
    ("hours", "status"), [(0.1, "limited"), (-0.1, "limited"), (1, "failed"), (0, "ok")]
)
async def test_clock(proxied: tuple[Gateway, Store], hours: float, status: str) -> None:
    way, s3 = proxied
    date = datetime.now(UTC) + timedelta(hours=hours)
    way.rule("GET .*list-type", headers={"Date": format_datetime(date, usegmt=True)})
    found = by_name(await examined(way.url, await s3.bucket()))["clock"]
    assert found.status == status
    seconds = found.values["seconds"]
    assert isinstance(seconds, float)
    assert abs(seconds + hours * 3600) < 30
    assert ("behind" in found.found) == (hours > 0)


async def test_bucket_of_another_region(proxied: tuple[Gateway, Store]) -> None:
    way, s3 = proxied
    way.rule("^HEAD /[^/]*$", headers={"x-amz-bucket-region": "us-west-2"})
    found = by_name(await examined(way.url, await s3.bucket()))["region"]
    assert found.status == "limited"
    assert "us-west-2" in found.advice


async def test_requests_through_botocore(moto_s3: Store) -> None:
    bucket = await moto_s3.bucket()
    async with session_on(moto_s3.url, direct=False) as session:
        found = by_name(await examine(session, bucket))["requests"]
    assert (found.status, found.found) == ("limited", "go through botocore")


async def test_nothing_else_is_tried_without_the_bucket(moto_s3: Store) -> None:
    found = await examined(moto_s3.url, "b-that-is-not-there")
    assert [each.probe for each in found.findings] == ["bucket"]
    assert not found.ok
    assert "NoSuchBucket" in found.findings[0].found


async def test_credentials_that_are_wrong(any_s3: Store) -> None:
    bucket = await any_s3.bucket()
    async with aiohaul.Session(
        region=REGION, endpoint_url=any_s3.url, access_key_id="other", secret_access_key="other"
    ) as session:
        found = await examine(session, bucket)
    if any_s3.kind == "moto":  # it believes everybody
        assert found.ok
    else:
        assert [each.probe for each in found.findings] == ["bucket"]
        assert not found.ok
    assert await any_s3.keys(bucket) == []


async def test_endpoint_that_is_down() -> None:
    found = await examined("http://127.0.0.1:1", "any")
    assert [(each.probe, each.status) for each in found.findings] == [("bucket", "failed")]


async def test_values_the_engine_learns_from(moto_s3: Store) -> None:
    bucket = await moto_s3.bucket()
    async with session_on(moto_s3.url) as session:
        await examine(session, bucket)
        support = (await session._clients.service("s3")).support
    assert support.enforced == {
        "PutObject": True,
        "CompleteMultipartUpload": True,
        "CopyObject": False,
    }


@pytest.mark.parametrize("code", ["NotImplemented", "MissingContentMD5"])
async def test_store_without_bulk_deletion(proxied: tuple[Gateway, Store], code: str) -> None:
    way, s3 = proxied
    way.rule("POST .*delete", status=501 if code == "NotImplemented" else 400, code=code)
    bucket = await s3.bucket()
    found = by_name(await examined(way.url, bucket))
    assert found["bulk deletion"].status == ("limited" if code == "NotImplemented" else "failed")
    assert await s3.keys(bucket) == []


async def test_no_secret_is_in_what_it_finds(moto_s3: Store) -> None:
    found = await examined(moto_s3.url, await moto_s3.bucket())
    assert SECRET not in str(found.as_dict())


async def test_gateway_that_is_cut_off_during_the_cleanup(
    moto_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that may still be there is listed, where the cleanup has no time."""
    monkeypatch.setattr(workspace, "_CLEANUP_TIMEOUT", 0.2)
    async with gateway(moto_url) as way, store(moto_url, "moto") as s3:
        bucket = await s3.bucket()
        way.rule("GET .*doctor.*list-type", hold=True, after=0)
        way.rules.clear()

        def hold(name: str, *_: object) -> None:
            if name == "throughput":
                way.rule("^GET .*list-type|^DELETE", hold=True)

        found = await examined(way.url, bucket, on_probe=hold)
        assert {each.uri for each in found.remnants} >= {
            f"s3://{bucket}/{key}" for key in await s3.keys(bucket)
        }
        assert {each.reason for each in found.remnants} == {"there was no time to remove it"}
        assert not found.ok
