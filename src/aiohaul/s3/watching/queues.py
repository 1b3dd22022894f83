"""Queues that S3's notifications fill: one long poll for all watches of a session."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet, WeakValueDictionary

import anyio

from aiohaul.aws.errors import translated
from aiohaul.aws.retry import pause_before
from aiohaul.aws.service import Service
from aiohaul.concurrency import Place, Rota, work
from aiohaul.errors import HaulError, ServiceError, SettingsError
from aiohaul.s3.objects import batches
from aiohaul.s3.watching.events import Notice, is_later, notices
from aiohaul.settings import Settings

#: Messages that one ReceiveMessage gives and one DeleteMessageBatch takes.
_BATCH = 10
#: Seconds for which a ReceiveMessage waits for a message, the most that SQS allows.
_LONG_POLL = 20
#: Receives at the same time while every one of them comes back full.
_MOST_RECEIVES = 16
#: Keys whose last event is remembered, to know a later one from an earlier one.
_KNOWN_KEYS = 20_000
#: Keys that may wait for one watch; when there are more, it lists the directory instead.
_MOST_HINTS = 10_000
_REGION = re.compile(r"(?:^|\.)sqs\.([a-z0-9-]+)\.")

_log = logging.getLogger(__name__)


class Delivery:
    """One message that was received: to be deleted once nobody holds it any more."""

    __slots__ = ("_done", "_held", "_receipt")

    def __init__(self, receipt: str, done: list[str]) -> None:
        self._receipt = receipt
        self._done = done
        self._held = 0

    def hold(self) -> Delivery:
        """Somebody has yet to hand over what it says."""
        self._held += 1
        return self

    def release(self) -> None:
        """What it says was handed over."""
        self._held -= 1
        if not self._held:
            self._done.append(self._receipt)


class Listener(Place):
    """One who wants to know what happens to the objects of a directory.

    Args:
        bucket: the bucket.
        directory: without leading or trailing "/"; "" is the whole bucket, at all depths.
        pattern: what the names must match.
        hinted: called when there is a hint.
        blinded: called when the queue cannot be read for a reason that may pass.

    Attributes:
        hints: the keys to which something happened, and the messages that said so.
        lost: True if there were too many: then anything may have happened.
        failure: why the queue cannot be read.
    """

    def __init__(
        self,
        bucket: str,
        directory: str,
        pattern: re.Pattern[str],
        hinted: Callable[[], None],
        blinded: Callable[[HaulError], None],
    ) -> None:
        super().__init__()
        self.bucket = bucket
        self._inside = f"{directory}/" if directory else ""
        self._pattern = pattern
        self._hinted = hinted
        self.blinded = blinded
        self.hints: dict[str, list[Delivery]] = {}
        self.lost = False
        self.failure: HaulError | None = None
        self._pending: dict[str, list[Delivery]] = {}
        self._in_hand: dict[str, list[Delivery]] = {}

    def wants(self, notice: Notice) -> bool:
        """Whether it is about an object of interest."""
        if notice.bucket != self.bucket or not notice.key.startswith(self._inside):
            return False
        if self._inside and "/" in notice.key[len(self._inside) :]:
            return False
        name = notice.key.rpartition("/")[2]
        return bool(name) and self._pattern.match(name) is not None

    def hint(self, key: str, delivery: Delivery) -> None:
        """Something happened to this key."""
        if key not in self.hints and len(self.hints) >= _MOST_HINTS:
            self.lost = True  # its message comes again
            self.hints.clear()
        else:
            self.hints.setdefault(key, []).append(delivery.hold())
        self._hinted()

    def hold_again(self, key: str, delivery: Delivery) -> None:
        """A message says once more what is known: it goes when the first one does."""
        for known in (self.hints, self._pending, self._in_hand):
            if key in known:
                known[key].append(delivery.hold())
                return

    def looked_into(self, key: str) -> None:
        """The hint was followed; its messages stay until that is handed over."""
        self._pending.setdefault(key, []).extend(self.hints.pop(key, ()))

    def hand_over(self, key: str) -> None:
        """What the messages of this key say is handed over now."""
        self._in_hand = {key: self._pending.pop(key, [])}

    def done(self) -> None:
        """What was handed over is done."""
        for delivery in chain.from_iterable(self._in_hand.values()):
            delivery.release()
        self._in_hand = {}

    def release_but(self, keys: Container[str]) -> None:
        """Nothing is to be handed over of other keys than these."""
        for key in [key for key in self._pending if key not in keys]:
            for delivery in self._pending.pop(key):
                delivery.release()


class Queues:
    """All queues that the watches of a session listen to."""

    def __init__(self) -> None:
        self._queues: WeakValueDictionary[tuple[Service, str], Queue] = WeakValueDictionary()

    def queue(self, sqs: Service, url: str) -> Queue:
        """The queue of this URL, for as long as somebody holds it."""
        key = (sqs, url)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = Queue(sqs, url)
        return queue


class Queue:
    """One queue, read by whoever of its listeners is on duty."""

    def __init__(self, sqs: Service, url: str) -> None:
        self._sqs = sqs
        self._url = url
        self._rota: Rota[Listener] = Rota()
        self._listeners: WeakSet[Listener] = WeakSet()
        self._latest: OrderedDict[tuple[str, str], str | None] = OrderedDict()
        self._done: list[str] = []
        self._receives = 1
        self._failures = 0
        self._said_foreign = False

    def join(self, listener: Listener) -> None:
        """Tell this one too, for as long as it is there."""
        self._listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        """Do not tell this one any more. What it has not handed over comes again."""
        self._listeners.discard(listener)

    async def listen(self, listener: Listener) -> None:
        """Read the queue until this listener is settled."""
        await self._rota.wait(listener, self._work, lambda: True)

    async def tidy(self) -> None:
        """Delete the messages that were handed over (DeleteMessageBatch).

        One that cannot be deleted comes again, which does no harm. Those of a request that is
        cancelled are tried once more with the next ones.
        """
        done, self._done[:] = list(self._done), []
        if not done:
            return
        some = [partial(self._delete, batch) for batch in batches(done, _BATCH)]
        await work(some, len(some))

    async def _delete(self, receipts: Sequence[str]) -> None:
        answered = False
        try:
            answer = await self._sqs.call(
                "delete_message_batch",
                self._url,
                QueueUrl=self._url,
                Entries=[
                    {"Id": str(n), "ReceiptHandle": receipt} for n, receipt in enumerate(receipts)
                ],
            )
        except ServiceError as error:
            answered = True
            _log.warning("messages that were handed over will come again: %s", error)
            return
        else:
            answered = True
        finally:
            if not answered:
                self._done += receipts
        for failed in answer.get("Failed", ()):
            _log.warning("a message that was handed over will come again: %s", failed)

    async def _work(self) -> None:
        """Receive once, with many requests while there are many messages."""
        try:
            await self.tidy()
            if self._receives == 1:
                messages = await self._receive(_LONG_POLL)
            else:
                messages = await self._receive_many(self._receives)
        except ServiceError as error:
            await self._put_up_with(error)
            return
        except HaulError as error:
            self._fail(error)
            return
        self._failures = 0
        full = len(messages) >= self._receives * _BATCH
        self._receives = min(self._receives * 2, _MOST_RECEIVES) if full else 1
        with translated("ReceiveMessage", self._url):
            told = [(each["Body"], each["ReceiptHandle"]) for each in messages]
        for body, receipt in told:
            self._route(body, receipt)

    async def _receive(self, seconds: int) -> list[Any]:
        answer = await self._sqs.call(
            "receive_message",
            self._url,
            QueueUrl=self._url,
            MaxNumberOfMessages=_BATCH,
            WaitTimeSeconds=seconds,
        )
        found: list[Any] = answer.get("Messages", [])
        return found

    async def _receive_many(self, requests: int) -> list[Any]:
        """Receive what is there already. If one request fails, the others' messages count."""
        messages: list[Any] = []
        failures: list[ServiceError] = []

        async def receive() -> None:
            try:
                messages.extend(await self._receive(0))
            except ServiceError as error:
                failures.append(error)

        await work([receive] * requests, requests)
        if failures and not messages:
            raise failures[0]
        return messages

    def _route(self, body: str, receipt: str) -> None:
        """Tell those who want to know what a message says."""
        said = notices(body)
        buckets = {listener.bucket for listener in self._listeners}
        if said is None or any(each.bucket not in buckets for each in said):
            self._leave_alone()
            return
        delivery = Delivery(receipt, self._done).hold()
        for notice in said:
            if notice.created:
                self._tell(notice, delivery)
        delivery.release()

    def _tell(self, notice: Notice, delivery: Delivery) -> None:
        wanting = [listener for listener in self._listeners if listener.wants(notice)]
        if not wanting:
            return
        key = (notice.bucket, notice.key)
        if is_later(notice.sequencer, self._latest.get(key)):
            self._latest[key] = notice.sequencer
            self._latest.move_to_end(key)
            if len(self._latest) > _KNOWN_KEYS:
                self._latest.popitem(last=False)
            tell = Listener.hint
        else:  # said before, or overtaken
            tell = Listener.hold_again
        for listener in wanting:
            tell(listener, notice.key, delivery)

    def _leave_alone(self) -> None:
        """A message for somebody else: the queue's own redrive policy is what it is for."""
        if not self._said_foreign:
            self._said_foreign = True
            _log.warning(
                "%s has messages that are not events of a bucket that is watched here; they are"
                " left there",
                self._url,
            )

    async def _put_up_with(self, error: ServiceError) -> None:
        if not error.retryable:
            self._fail(error)
            return
        for listener in list(self._listeners):
            listener.blinded(error)
        self._failures += 1
        await anyio.sleep(pause_before(self._failures + 1, error.retry_after))

    def _fail(self, error: HaulError) -> None:
        for listener in self._rota:
            listener.failure = error
            listener.settle()


def queue_settings(settings: Settings, url: str) -> Settings:
    """Who reads a queue, and where: its URL says the endpoint, and AWS's the region too.

    Raises:
        SettingsError: it is no URL.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:  # brackets around something that is no address
        raise SettingsError(f"{url!r} is not the URL of a queue: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"{url!r} is not the URL of a queue: https://sqs.REGION.…/…/NAME")
    region = _REGION.search(parts.hostname)
    return replace(
        settings,
        endpoint_url=f"{parts.scheme}://{parts.netloc}",
        region=region[1] if region else settings.region,
    )
