"""Stores that do not know a checksum: it is found out once, and another one is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import aiohaul
from aiohaul import Destination
from aiohaul.doctor.examine import examine
from aiohaul.s3.handler import transfers_of
from aiohaul.s3.streaming import checksums
from aiohaul.s3.streaming.parts import PART_SIZE, Limits
from tests.support.gateway import Gateway
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store

Proxied = tuple[Gateway, Store]
LARGE = b"01234567" * (PART_SIZE // 8 + 1)
BEST = checksums.best().name
#: The header of a write with the checksum, and of an upload in parts that is to have it.
NEW = f"^(x-amz-checksum-{BEST.lower()}:|x-amz-checksum-algorithm: {BEST})"
NAME = "x-amz-checksum-%s"
#: Errors of stores that do not know a checksum.
REFUSALS = [
    (400, "InvalidArgument"),
    (400, "InvalidRequest"),
    (400, "InvalidRequestParameter"),
    (501, "NotImplemented"),
]

pytestmark = pytest.mark.skipif(BEST == "CRC32", reason="awscrt is not installed")


@pytest.fixture(params=[True, False], ids=["direct", "botocore"])
def direct(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def session_on(url: str, **more: Any) -> aiohaul.Session:
    return aiohaul.Session(
        region=REGION, endpoint_url=url, access_key_id=KEY, secret_access_key=SECRET, **more
    )


@pytest.mark.parametrize(("status", "code"), REFUSALS)
@pytest.mark.parametrize("data", [b"hello", LARGE], ids=["small", "large"])
async def test_refused_checksum_is_replaced_by_crc32_for_the_session(
    proxied: Proxied, status: int, code: str, data: bytes, direct: bool
) -> None:
    gate, s3 = proxied
    rule = gate.rule("^(PUT|POST)", header=NEW, status=status, code=code)
    out = await s3.bucket()
    sent: list[str] = []

    def note(request: web.Request) -> None:
        """Of each first request of a write."""
        if "x-amz-checksum-algorithm" in request.headers:
            sent.append(request.headers["x-amz-checksum-algorithm"])
        elif request.method == "PUT" and "partNumber" not in request.query_string:
            sent.extend(each for each in checksums.algorithms() if NAME % each in request.headers)

    gate.noting = note
    async with session_on(s3.url, direct=direct) as session:
        handler = session.s3()
        for place in ("first", "second"):
            await handler.write(out, f"{place}/a", data)
    assert len(rule.hits) == 1, "this is found out once"
    assert await s3.contents(out) == {"first/a": data, "second/a": data}
    assert await s3.uploads(out) == []
    assert sent == [BEST, "CRC32", "CRC32"]


async def test_copy_in_parts_by_the_store_itself_goes_without_the_checksum(
    proxied: Proxied,
) -> None:
    """The checksum of the source is not computed anew: no byte comes to this process."""
    gate, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", LARGE, ChecksumAlgorithm=BEST)
    rule = gate.rule("^POST", header=NEW, status=400, code="InvalidRequest")
    async with session_on(s3.url) as session:
        handler = session.s3()
        (report,) = await transfers_of(handler).copy_all(
            await handler.find(inbox, "src"),
            [Destination(bucket=out)],
            limits=Limits(copy=1, copy_step=PART_SIZE),
        )
    assert report.ok, report.failures
    assert len(rule.hits) == 1
    assert await s3.contents(out) == {"a": LARGE}


@pytest.mark.parametrize(("status", "code"), REFUSALS)
async def test_write_that_is_refused_for_another_reason_says_it(
    proxied: Proxied, status: int, code: str
) -> None:
    gate, s3 = proxied
    out = await s3.bucket()
    gate.rule(f"^PUT /{out}/a", status=status, code=code)
    async with session_on(s3.url) as session:
        handler = session.s3()
        with pytest.raises(aiohaul.ServiceError, match=f"s3://{out}/a failed: {code}"):
            await handler.write(out, "a", b"hello")
        support = (await session._clients.service("s3")).support
    assert gate.count(f"^PUT /{out}/a") == 2
    assert support.refused_checksums == set()


async def test_refused_acl_is_not_sent_again(proxied: Proxied) -> None:
    gate, s3 = proxied
    out = await s3.bucket()
    gate.rule(f"^PUT /{out}/a", status=400, code="AccessControlListNotSupported")
    async with session_on(s3.url) as session:
        with pytest.raises(aiohaul.ServiceError, match="disableBucketOwnerControlACL"):
            await session.s3().write(out, "a", b"hello")
    assert gate.count(f"^PUT /{out}/a") == 1


async def test_upload_that_fell_back_is_resumed_by_another_session(
    proxied: Proxied, tmp_path: Path
) -> None:
    gate, s3 = proxied
    gate.rule("^(PUT|POST)", header=NEW, status=400, code="InvalidRequest")
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", LARGE)
    destination = Destination(bucket=out, transfer_type="proxy")
    journal = tmp_path / "journal.db"
    failing = gate.rule(r"partNumber=2", status=403, code="AccessDenied")
    copied = {}
    for attempt in ("fails", "goes on"):
        async with session_on(s3.url) as session:
            handler = session.s3()
            found = await handler.find(inbox, "src")
            try:
                await handler.copy(found, [destination], journal=journal)
            except aiohaul.TransferError:
                failing.times = 0
                continue
            copied[attempt] = True
    assert copied == {"goes on": True}
    assert await s3.contents(out) == {"a": LARGE}
    assert await s3.uploads(out) == []


async def test_doctor_says_which_checksum_is_refused(proxied: Proxied) -> None:
    gate, s3 = proxied
    gate.rule("^(PUT|POST)", header=NEW, status=400, code="InvalidArgument")
    bucket = await s3.bucket()
    async with session_on(s3.url) as session:
        found = await examine(session, bucket)
    (finding,) = [each for each in found.findings if each.probe == "checksums"]
    assert f"{BEST} is refused; CRC32 is" in finding.found
