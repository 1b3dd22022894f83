"""Probes that write nothing: they test the credentials, the endpoint and the bucket."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from statistics import median
from typing import Any

from aiohaul.aws.hosts import sts_endpoint
from aiohaul.doctor.bench import Bench
from aiohaul.doctor.finding import Finding
from aiohaul.errors import AccessDeniedError, ObjectNotFoundError, ServiceError
from aiohaul.s3.bucket_service import unbound

#: Seconds of difference between the clocks at which S3 rejects requests, and at which the doctor
#: reports the difference.
_REFUSED_SKEW = 900.0
_NOTABLE_SKEW = 5.0
_ROUND_TRIPS = 7
#: Error codes of stores that do not have a feature, or have no such configuration.
_NONE_THERE = frozenset(
    {
        "ObjectLockConfigurationNotFoundError",
        "NoSuchObjectLockConfiguration",
        "NotImplemented",
        "MethodNotAllowed",
        "404",
        "405",
        "501",
    }
)


async def bucket(bench: Bench) -> Finding:
    """List the first object below the prefix. AWS: ListObjectsV2."""
    began = time.perf_counter()
    with bench.needs("s3:ListBucket"):
        page = await bench.ask("list_objects_v2", Prefix=bench.prefix, MaxKeys=1)
    took = time.perf_counter() - began
    for each in page.get("Contents", ()):
        bench.some_key = each["Key"]
    what = "it has objects there" if bench.some_key else "nothing is there yet"
    return Finding("bucket", "ok", f"answers in {took * 1000:.0f} ms; {what}")


async def credentials(bench: Bench) -> Finding:
    """Find the owner of the credentials. AWS: GetCallerIdentity, else ListBuckets."""
    at = sts_endpoint(bench.settings.endpoint_url)
    sts = await bench.clients.service("sts", replace(bench.settings, endpoint_url=at))
    try:
        response = await sts.attempt("get_caller_identity", "the credentials")
    except ServiceError as error:
        if bench.s3.is_aws:
            raise
        return await _owner(bench, error)
    arn, account = str(response.get("Arn", "")), str(response.get("Account", ""))
    values = {"arn": arn, "account": account}
    return Finding("credentials", "ok", f"{arn} (account {account})", values=values)


async def _owner(bench: Bench, error: ServiceError) -> Finding:
    """Find the owner of the credentials at a store without STS. AWS: ListBuckets."""
    try:
        response = await unbound(bench.s3).attempt("list_buckets", "the buckets")
    except ServiceError:
        found = "accepted; neither STS nor S3 says whose they are"
    else:
        owner = response.get("Owner", {})
        name = owner.get("DisplayName") or owner.get("ID") or "nobody with a name"
        found = f"accepted; S3 says {name}, and there is no STS ({error.code})"
    return Finding(
        "credentials",
        "ok",
        found,
        "roles (assume_role_arn) cannot be used here",
    )


async def region(bench: Bench) -> Finding:
    """Compare the region of the requests with the region of the bucket. AWS: HeadBucket."""
    ours = bench.s3.region
    try:
        answer = await bench.ask("head_bucket")
    except (AccessDeniedError, ObjectNotFoundError) as error:
        return Finding(
            "region", "unknown", f"{ours}; the bucket does not say its own ({error.code})"
        )
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    theirs = answer.get("BucketRegion") or headers.get("x-amz-bucket-region") or ""
    values = {"ours": ours, "bucket": theirs}
    if theirs and theirs != ours:
        return Finding(
            "region",
            "limited",
            f"{ours}, and the bucket is in {theirs}",
            "requests are signed again for the other region, and bytes cross regions",
            f"Set region_name (or AWS_REGION) to {theirs}.",
            values,
        )
    says = "as the bucket" if theirs else "the bucket says none"
    return Finding("region", "ok", f"{ours}, {says}", values=values)


async def clock(bench: Bench) -> Finding:
    """Compare this machine's clock with the header ``Date`` of a response. AWS: ListObjectsV2."""
    before = datetime.now(UTC)
    answer = await bench.ask("list_objects_v2", Prefix=bench.prefix, MaxKeys=1)
    between = before + (datetime.now(UTC) - before) / 2
    response = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if not response:
        return Finding("clock", "unknown", "answers have no Date")
    # Half a second less, because the date is cut to the second.
    skew = (between - parsedate_to_datetime(response)).total_seconds() - 0.5
    values = {"seconds": round(skew, 1)}
    if abs(skew) < _NOTABLE_SKEW:
        return Finding("clock", "ok", "as the store's, to a few seconds", values=values)
    found = f"{abs(skew):.0f} s {'before' if skew > 0 else 'behind'} the store's"
    advice = "Let NTP set this machine's clock."
    if abs(skew) < _REFUSED_SKEW:
        means = "conditions on the age of objects are off by that"
        return Finding("clock", "limited", found, means, advice, values)
    return Finding("clock", "failed", found, "signatures are refused", advice, values)


async def encryption(bench: Bench) -> Finding:
    """Check that the endpoint uses https. Sends no request."""
    if bench.s3.is_tls:
        return Finding("TLS", "ok", "requests are encrypted, and certificates verified")
    return Finding(
        "TLS",
        "ok" if bench.s3.is_local else "limited",
        "plain HTTP to this machine" if bench.s3.is_local else "plain HTTP",
        "" if bench.s3.is_local else "everybody on the network path can read and change objects",
        "" if bench.s3.is_local else "Use an https:// endpoint.",
    )


async def read(bench: Bench) -> Finding:
    """Read one byte of an object of the user, or request a missing key. AWS: GetObject."""
    key = bench.some_key
    bench.operations.add("get_object")
    if key is None or key.endswith("/"):
        key = bench.workspace.key("none")
    try:
        with bench.needs("s3:GetObject"):
            await bench.s3.read(
                f"s3://{bench.bucket}/{key}", Bucket=bench.bucket, Key=key, Range="bytes=0-0"
            )
    except ObjectNotFoundError:
        bench.allowed.add("s3:GetObject")
        return Finding("read", "ok", "there is no object yet, and it may be looked for")
    except ServiceError as error:
        if error.status != _NO_SUCH_RANGE:
            raise
        bench.allowed.add("s3:GetObject")
    return Finding("read", "ok", f"{key} can be read")


_NO_SUCH_RANGE = 416  # the object is empty


async def versioning(bench: Bench) -> Finding:
    """Check whether the bucket has versioning. AWS: GetBucketVersioning."""
    try:
        answer = await bench.ask("get_bucket_versioning")
    except ServiceError as error:
        if error.code not in _NONE_THERE:
            raise
        bench.versioning = "Off"
        return Finding("versioning", "ok", f"off: the store has none ({error.code})")
    bench.versioning = str(answer.get("Status") or "Off")
    bench.workspace.has_versions = bench.versioning != "Off"
    if bench.versioning == "Off":
        return Finding("versioning", "ok", "off", values={"state": "Off"})
    return Finding(
        "versioning",
        "ok",
        bench.versioning.lower(),
        "what is deleted or overwritten stays as an older version, and is paid for",
        "Have a lifecycle rule expire noncurrent versions.",
        {"state": bench.versioning},
    )


async def object_lock(bench: Bench) -> Finding:
    """Check for a default retention. AWS: GetObjectLockConfiguration."""
    try:
        answer = await bench.ask("get_object_lock_configuration")
    except ServiceError as error:
        if error.code not in _NONE_THERE and error.status not in (404, 405, 501):
            raise
        return Finding("Object Lock", "ok", "off", values={"default_retention": False})
    response: dict[str, Any] = answer.get("ObjectLockConfiguration", {})
    retention = response.get("Rule", {}).get("DefaultRetention")
    if not retention:
        return Finding(
            "Object Lock",
            "ok",
            "on, without a default retention",
            values={"default_retention": False},
        )
    days = retention.get("Days")
    term = f"{days} days" if days else f"{retention.get('Years')} years"
    return Finding(
        "Object Lock",
        "limited",
        f"objects are kept for {term} ({retention.get('Mode', 'mode unknown')})",
        "every copy and flag stays that long; moves and deletes hide objects, and free nothing",
        "Nothing is tried here: run the doctor on a bucket like this one without retention.",
        {"default_retention": True},
    )


async def latency(bench: Bench) -> Finding:
    """Measure the time of small requests, one after another. AWS: ListObjectsV2 of one key."""
    took = []
    for _ in range(_ROUND_TRIPS):
        began = time.perf_counter()
        await bench.ask("list_objects_v2", Prefix=bench.workspace.directory, MaxKeys=1)
        took.append((time.perf_counter() - began) * 1000)
    middle = median(took)
    return Finding(
        "round trip",
        "ok",
        f"{middle:.0f} ms in the middle, {max(took):.0f} ms at most, of {_ROUND_TRIPS}",
        values={"milliseconds": round(middle, 1)},
    )
