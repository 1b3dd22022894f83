"""Answers that begin with whitespace, which keeps a connection alive while an upload completes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

import aiohaul
from tests.support.fake_http import FakeServer, Request
from tests.support.servers import KEY, REGION, SECRET

DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'
AT = {"Bucket": "bucket", "Key": "k"}
PART = {"PartNumber": 1, "ETag": '"x"'}

#: operation -> parameters, the body of its answer, and a part of what it says
ANSWERS: dict[str, tuple[dict[str, Any], bytes, str]] = {
    "complete_multipart_upload": (
        {**AT, "UploadId": "u", "MultipartUpload": {"Parts": [PART]}},
        b'<CompleteMultipartUploadResult><ETag>"done"</ETag></CompleteMultipartUploadResult>',
        '"done"',
    ),
    "copy_object": (
        {**AT, "CopySource": {"Bucket": "bucket", "Key": "other"}},
        b'<CopyObjectResult><ETag>"copied"</ETag></CopyObjectResult>',
        '"copied"',
    ),
    "delete_objects": (
        {"Bucket": "bucket", "Delete": {"Objects": [{"Key": "k"}]}},
        b"<DeleteResult><Deleted><Key>deleted</Key></Deleted></DeleteResult>",
        "deleted",
    ),
    "list_objects_v2": (
        {"Bucket": "bucket"},
        b"<ListBucketResult><Contents><Key>listed</Key></Contents></ListBucketResult>",
        "listed",
    ),
}


@dataclass(eq=False)
class Spacing(FakeServer):
    """Answers every request with whitespace and a body."""

    status: int = 200
    body: bytes = b""
    requests: int = 0

    async def serve(self, request: Request) -> None:
        self.requests += 1
        await request.connection.answer(self.status, b" \r\n\t " * 50 + self.body)


def session(server: Spacing, *, direct: bool) -> aiohaul.Session:
    return aiohaul.Session(
        region=REGION,
        endpoint_url=server.url,
        access_key_id=KEY,
        secret_access_key=SECRET,
        direct=direct,
    )


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("operation", ANSWERS)
async def test_answer_behind_whitespace_is_read_and_not_asked_for_again(
    operation: str, direct: bool
) -> None:
    parameters, body, part = ANSWERS[operation]
    async with Spacing(body=DECLARATION + body) as server, session(server, direct=direct) as made:
        s3 = await made._clients.service("s3")
        for sent in (1, 2, 3):
            answer = await s3.call(operation, "it", **parameters)
            entries = list(answer.get("Contents", ()))
            assert part in f"{answer} {entries}"
            assert server.requests == sent


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("status", [200, 403])
async def test_error_behind_whitespace_keeps_its_code(
    monkeypatch: pytest.MonkeyPatch, status: int, direct: bool
) -> None:
    monkeypatch.setattr("aiohaul.aws.service.ATTEMPTS", 1)
    body = b"<Error><Code>EntityTooSmall</Code><Message>no</Message></Error>"
    parameters, *_ = ANSWERS["complete_multipart_upload"]
    async with (
        Spacing(status=status, body=DECLARATION + body) as server,
        session(server, direct=direct) as made,
    ):
        s3 = await made._clients.service("s3")
        for _ in range(3):
            with pytest.raises(aiohaul.ServiceError) as raised:
                await s3.call("complete_multipart_upload", "it", **parameters)
            assert raised.value.code == "EntityTooSmall"


@pytest.mark.parametrize("direct", [True, False])
async def test_answer_of_whitespace_alone_is_incomplete(
    monkeypatch: pytest.MonkeyPatch, direct: bool
) -> None:
    monkeypatch.setattr("aiohaul.aws.service.ATTEMPTS", 1)
    parameters, *_ = ANSWERS["complete_multipart_upload"]
    async with Spacing() as server, session(server, direct=direct) as made:
        s3 = await made._clients.service("s3")
        for _ in range(3):
            with pytest.raises(aiohaul.ServiceError) as raised:
                await s3.call("complete_multipart_upload", "it", **parameters)
            assert raised.value.retryable
