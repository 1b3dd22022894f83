"""A server that is in one region, and answers requests that are signed for another as S3 does."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.support.fake_http import FakeServer, Request
from tests.support.servers import REGION

EMPTY_LISTING = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"


@dataclass(eq=False)
class FakeS3(FakeServer):
    """Answers every HEAD and listing of the region it is in, and notes what came."""

    region: str = REGION
    seen: list[Request] = field(default_factory=list)
    #: for one request: status, body and headers of another answer
    next_answers: list[tuple[int, bytes, dict[str, str]]] = field(default_factory=list)

    async def serve(self, request: Request) -> None:
        self.seen.append(request)
        if self.next_answers:
            status, body, headers = self.next_answers.pop(0)
            await request.connection.answer(status, body, headers)
        elif f"/{self.region}/s3/" not in request.headers.get("authorization", ""):
            headers = {"x-amz-bucket-region": self.region}
            text = f"<Error><Code>PermanentRedirect</Code><Region>{self.region}</Region></Error>"
            body = b"" if request.method == "HEAD" else text.encode()
            await request.connection.answer(301, body, headers)
        else:
            body = EMPTY_LISTING if "list-type" in request.path else b""
            headers = {"etag": '"e"', "last-modified": "Sat, 31 Jan 2026 10:20:30 GMT"}
            await request.connection.answer(200, body, headers)
