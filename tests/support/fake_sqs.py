"""A queue of the tests' own: what is in it, what was received, and what was deleted when."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.fake_http import FakeServer, Request

ACCOUNT = "000000000000"


def direct(bucket: str, key: str, sequencer: str | None = None, **more: Any) -> str:
    """A message of S3's own."""
    thing = {"key": key, "size": 1, "eTag": "e", **({"sequencer": sequencer} if sequencer else {})}
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "eventTime": "2026-01-02T00:00:00.000Z",
        "s3": {"bucket": {"name": bucket}, "object": thing},
        **more,
    }
    return json.dumps({"Records": [record]})


def through_sns(body: str) -> str:
    return json.dumps(
        {"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:x", "Message": body}
    )


def through_eventbridge(bucket: str, key: str, sequencer: str = "01") -> str:
    return json.dumps(
        {
            "version": "0",
            "detail-type": "Object Created",
            "source": "aws.s3",
            "detail": {
                "bucket": {"name": bucket},
                "object": {"key": key, "size": 1, "etag": "e", "sequencer": sequencer},
                "reason": "PutObject",
            },
        }
    )


TEST_EVENT = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"})


@dataclass(eq=False)
class FakeSqs(FakeServer):
    """One queue.

    Attributes:
        waiting: the messages that may be received, by receipt, in order.
        flying: those that were received and are invisible.
        deleted: the bodies of those that were deleted.
        calls: how often each operation came.
        faults: statuses and codes to answer ReceiveMessage with first, one after the other.
        polls: how many long polls are open now, and were at once.
    """

    waiting: dict[str, str] = field(default_factory=dict)
    flying: dict[str, str] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)
    open: int = 0
    most_open: int = 0
    made: int = 0
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def queue(self) -> str:
        return f"{self.url}/{ACCOUNT}/events"

    async def send(self, *bodies: str) -> None:
        for body in bodies:
            self.made += 1
            self.waiting[f"r{self.made}"] = body
        await self.tell()

    async def expire(self) -> None:
        """The visibility timeout of everything that was received is over."""
        for receipt, body in list(self.flying.items()):
            del self.flying[receipt]
            self.made += 1
            self.waiting[f"{receipt}+{self.made}"] = body
        await self.tell()

    async def serve(self, request: Request) -> None:
        operation = request.headers["x-amz-target"].rpartition(".")[2]
        self.calls[operation] += 1
        await self.tell()
        given = json.loads(request.body)
        if operation == "ReceiveMessage" and self.faults:
            status, code = self.faults.pop(0)
            body = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": "by the test"})
            await request.connection.answer(status, body.encode())
        elif operation == "ReceiveMessage":
            await self._receive(request, given)
        elif operation == "DeleteMessageBatch":
            await self._delete(request, given)
        else:
            await request.connection.answer(501)
        await self.tell()

    async def _receive(self, request: Request, given: Mapping[str, Any]) -> None:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        await self.tell()
        gone = asyncio.ensure_future(request.connection.reader.read(1))
        there = asyncio.ensure_future(self.until(lambda: bool(self.waiting)))
        try:
            await asyncio.wait(
                {gone, there},
                timeout=given.get("WaitTimeSeconds", 0),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if gone.done():
                raise ConnectionError
        finally:
            self.open -= 1
            for each in (gone, there):
                each.cancel()
            await asyncio.wait({gone, there})
        receipts = list(self.waiting)[: given["MaxNumberOfMessages"]]
        self.flying |= {receipt: self.waiting.pop(receipt) for receipt in receipts}
        messages = [
            {"MessageId": receipt, "ReceiptHandle": receipt, "Body": self.flying[receipt]}
            for receipt in receipts
        ]
        answer = {"Messages": messages} if messages else {}
        await request.connection.answer(200, json.dumps(answer).encode())

    async def _delete(self, request: Request, given: Mapping[str, Any]) -> None:
        for entry in given["Entries"]:
            body = self.flying.pop(entry["ReceiptHandle"], None)
            if body is not None:
                self.deleted.append(body)
        done = {"Successful": [{"Id": each["Id"]} for each in given["Entries"]], "Failed": []}
        await request.connection.answer(200, json.dumps(done).encode())
