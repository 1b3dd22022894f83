"""Answers that stay the same however often the request is sent: one request, and one error."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import aiohaul
from tests.support.fake_http import FakeServer, Request
from tests.support.servers import KEY, REGION, SECRET


@dataclass(eq=False)
class Refusing(FakeServer):
    """Answers every request with one error."""

    status: int = 501
    code: str = "NotImplemented"
    requests: int = 0

    async def serve(self, request: Request) -> None:
        self.requests += 1
        body = f"<Error><Code>{self.code}</Code><Message>no</Message></Error>".encode()
        await request.connection.answer(self.status, b"" if request.method == "HEAD" else body)


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (501, "NotImplemented", aiohaul.ServiceError),
        (505, "HttpVersionNotSupported", aiohaul.ServiceError),
        (507, "XMinioStorageFull", aiohaul.StorageFullError),
        (507, "", aiohaul.StorageFullError),
        (400, "XMinioAdminBucketQuotaExceeded", aiohaul.StorageFullError),
        (403, "QuotaExceeded", aiohaul.StorageFullError),
    ],
)
async def test_final_answer_is_not_asked_for_again(
    status: int, code: str, kind: type[aiohaul.ServiceError], direct: bool
) -> None:
    async with (
        Refusing(status=status, code=code) as server,
        aiohaul.Session(
            region=REGION,
            endpoint_url=server.url,
            access_key_id=KEY,
            secret_access_key=SECRET,
            direct=direct,
        ) as session,
    ):
        s3 = await session._clients.service("s3")
        for sent in (1, 2, 3):
            with pytest.raises(kind) as raised:
                await s3.call("create_multipart_upload", "it", Bucket="bucket", Key="k")
            assert (raised.value.attempts, server.requests) == (1, sent)
            assert not raised.value.retryable
            assert not raised.value.outcome_unknown
            assert raised.value.code == (code or str(status))
