"""Payer, owner, storage class and KMS key under Open Task Framework: each step has them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from aiohaul.tasks.otf_steps import OtfS3Adapter
from tests.support.demanding_s3 import DemandingS3
from tests.support.front import Front
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import PROTOCOL
from tests.support.strict_s3 import Call, Reply

OWNERS = {"inbox": "111111111111", "out": "222222222222", "archive": "333333333333"}
LOGGER = logging.getLogger(__name__)


def owned(bucket: str) -> dict[str, str]:
    return {"requestPayer": "requester", "expectedBucketOwner": OWNERS[bucket]}


@pytest.fixture
async def store() -> AsyncIterator[tuple[DemandingS3, dict[str, Any]]]:
    s3 = DemandingS3(buckets={*OWNERS}, payers={*OWNERS}, owners=OWNERS)

    async def answer(call: Call) -> Reply:
        return s3.answer(call)

    async with AsyncExitStack() as stack:
        front = await stack.enter_async_context(Front("s3", answer).serving())
        keys = {"access_key_id": KEY, "secret_access_key": SECRET, "region_name": REGION}
        yield s3, {"name": PROTOCOL, "endpoint_url": front.url, **keys}


async def test_each_step_has_the_options_of_its_bucket(
    store: tuple[DemandingS3, dict[str, Any]], tmp_path: Path
) -> None:
    s3, protocol = store
    s3.put("inbox", "src/a", b"line\n")
    s3.put("inbox", "src/old", b"1", **{"x-amz-storage-class": "GLACIER"})
    move = {"action": "move", "destination": "s3://archive/done/", **owned("archive")}
    source = OtfS3Adapter(
        {
            "bucket": "inbox",
            "directory": "src",
            "fileRegex": ".*",
            "protocol": protocol,
            **owned("inbox"),
            "ignoreStorageClasses": ["GLACIER"],
            "postCopyAction": move,
            "logWatch": {"directory": "src", "log": "a", "contentRegex": "line"},
        },
        LOGGER,
    )
    destination = OtfS3Adapter(
        {
            "bucket": "out",
            "directory": "in",
            "flags": {"fullPath": "f"},
            **owned("out"),
            "storageClass": "GLACIER_IR",
            "kmsKeyId": "k",
            "protocol": protocol,
        },
        LOGGER,
    )
    async with aiohaul.Session() as session:
        assert await source.watch_log(session)
        listed = await source.listing(session, None, None)
        assert [*listed] == ["src/a"]
        assert await source.copy(session, listed, destination)
        assert await source.pull(session, listed, str(tmp_path))
        assert await asyncio.to_thread((tmp_path / "a").read_bytes) == b"line\n"
        assert await destination.push(session, str(tmp_path), None)
        assert await destination.flag(session)
        assert await source.act(session, listed)
    assert s3.refused == []
    assert set(s3.contents("out")) == {"in/a", "f"}
    assert set(s3.contents("archive")) == {"done/a"}
    assert set(s3.contents("inbox")) == {"src/old"}
    key = "x-amz-server-side-encryption-aws-kms-key-id"
    assert s3.objects["out", "in/a"].kept["x-amz-storage-class"] == "GLACIER_IR"
    assert s3.objects["out", "in/a"].kept[key] == s3.objects["out", "f"].kept[key] == "k"
