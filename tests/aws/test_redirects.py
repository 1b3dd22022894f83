"""Redirects that lead nowhere: the region of a bucket is asked for once, not again and again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

import aiohaul
from tests.support.fake_http import FakeServer, Request
from tests.support.sessions import s3_service

AT = {"Bucket": "bucket", "Key": "k"}
CALLS: dict[str, dict[str, Any]] = {
    "list_objects_v2": {"Bucket": "bucket"},
    "head_object": AT,
    "head_bucket": {"Bucket": "bucket"},
    "put_object": {**AT, "Body": b"x"},
    "copy_object": {**AT, "CopySource": {"Bucket": "bucket", "Key": "other"}},
    "delete_objects": {"Bucket": "bucket", "Delete": {"Objects": [{"Key": "k"}]}},
}


@dataclass(eq=False)
class Redirecting(FakeServer):
    """Redirects every request, and never says to which region."""

    status: int = 307
    requests: list[str] = field(default_factory=list)

    async def serve(self, request: Request) -> None:
        self.requests.append(request.method)
        await request.connection.answer(self.status, headers={"location": "http://[/"})


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("status", [301, 302, 307])
@pytest.mark.parametrize("operation", CALLS)
async def test_redirect_without_a_region_ends_soon(
    operation: str, status: int, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohaul.aws.service.ATTEMPTS", 1)
    async with (
        Redirecting(status=status) as server,
        s3_service(server.url, direct=direct) as s3,
    ):
        with pytest.raises(aiohaul.ServiceError):
            await s3.call(operation, "s3://bucket/k", **CALLS[operation])
        assert len(server.requests) <= 4
