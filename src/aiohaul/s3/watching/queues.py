"""Reads S3 events from SQS queues. All watches of one queue in a Session share its messages."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from urllib.parse import urlsplit
from weakref import WeakSet, WeakValueDictionary

import anyio

from aiohaul.aws import answers
from aiohaul.aws.errors import translated
from aiohaul.aws.retry import backoff_delay
from aiohaul.aws.service import Service
from aiohaul.concurrency import LeaderQueue, Waiter, run_limited
from aiohaul.errors import HaulError, ServiceError, SettingsError
from aiohaul.regexes.bounded import bounded
from aiohaul.s3.objects import batches
from aiohaul.s3.watching.events import S3Event, events_of, is_later
from aiohaul.settings import Settings, check_endpoint_url

#: Maximum number of messages of one ReceiveMessage and of one DeleteMessageBatch.
_BATCH = 10
#: Seconds for which SQS holds a ReceiveMessage open until a message arrives; 20 is the maximum.
_LONG_POLL = 20
#: Maximum number of concurrent ReceiveMessage requests. The number doubles while every request
#: returns 10 messages.
_MAX_RECEIVES = 16
#: Number of keys whose last sequencer is stored, to find events that arrive late or twice.
_MAX_SEQUENCERS = 20_000
#: Maximum number of dirty keys of one watch. With more keys the watch lists the directory instead.
_MAX_DIRTY_KEYS = 10_000
_REGION = re.compile(r"(?:^|\.)sqs\.([a-z0-9-]+)\.")

_log = logging.getLogger(__name__)


class MessageAck:
    """A received SQS message, deleted from the queue once all of its holders have released it.

    A holder still needs the message: the listener of a watch that has to check a key or to yield a
    change, or the code that reads the events. If this process ends before the deletion, SQS
    delivers the message again.
    """

    __slots__ = ("_holders", "_receipt", "_to_delete")

    def __init__(self, receipt: str, done: list[str]) -> None:
        self._receipt = receipt
        self._to_delete = done
        self._holders = 0

    def hold(self) -> MessageAck:
        """Add a holder, and return this object."""
        self._holders += 1
        return self

    def release(self) -> None:
        """Remove a holder, and mark the message for deletion if no holder is left."""
        self._holders -= 1
        if not self._holders:
            self._to_delete.append(self._receipt)


class Listener(Waiter):
    """Collects the dirty keys of one directory: an event named each of them, unchecked until now.

    Args:
        bucket: the bucket.
        directory: without leading or trailing "/"; "" is the whole bucket, at all depths.
        pattern: a regex that the names must match.
        on_dirty: called when a key becomes dirty.
        on_queue_unavailable: called with the error when ReceiveMessage failed with a transient
            error.
        recursive: True includes the objects of subdirectories.

    Attributes:
        dirty_keys: the dirty keys, each with the messages that named the key.
        overflowed: True if there were more than 10,000 dirty keys. The keys were discarded, so
            the watch must list the directory.
        failure: the permanent error of ReceiveMessage that ended the listening, or None.
    """

    def __init__(
        self,
        bucket: str,
        directory: str,
        pattern: re.Pattern[str],
        on_dirty: Callable[[], None],
        on_queue_unavailable: Callable[[HaulError], None],
        *,
        recursive: bool = False,
    ) -> None:
        super().__init__()
        self.bucket = bucket
        self._recursive = recursive or not directory
        self._inside = f"{directory}/" if directory else ""
        self._matches = bounded(pattern).matches_name
        self._on_dirty = on_dirty
        self.on_queue_unavailable = on_queue_unavailable
        self.dirty_keys: dict[str, list[MessageAck]] = {}
        self.overflowed = False
        self.failure: HaulError | None = None
        self._pending: dict[str, list[MessageAck]] = {}
        self._unacked: dict[str, list[MessageAck]] = {}

    def wants(self, event: S3Event) -> bool:
        """Return True if the event names an object of this directory with a matching name."""
        if event.bucket != self.bucket or not event.key.startswith(self._inside):
            return False
        if not self._recursive and "/" in event.key[len(self._inside) :]:
            return False
        name = event.key.rpartition("/")[2]
        return bool(name) and bool(self._matches(name))

    def mark_dirty(self, key: str, ack: MessageAck) -> None:
        """Add a dirty key, and hold the message that named the key.

        Args:
            key: the key.
            ack: the message.
        """
        if key not in self.dirty_keys and len(self.dirty_keys) >= _MAX_DIRTY_KEYS:
            self.overflowed = True  # SQS delivers the held messages again
            self.dirty_keys.clear()
        else:
            self.dirty_keys.setdefault(key, []).append(ack.hold())
        self._on_dirty()

    def add_repeated(self, key: str, ack: MessageAck) -> None:
        """Hold the message of a repeated or older event as long as the first message of the key.

        Args:
            key: the key.
            ack: the message of the repeated event.
        """
        for known in (self.dirty_keys, self._pending, self._unacked):
            if key in known:
                known[key].append(ack.hold())
                return

    def mark_checked(self, key: str) -> None:
        """Mark a dirty key as checked, and hold its messages until its change is yielded."""
        self._pending.setdefault(key, []).extend(self.dirty_keys.pop(key, ()))

    def yield_key(self, key: str) -> None:
        """Record that the watch yields the change of this key now."""
        self._unacked = {key: self._pending.pop(key, [])}

    def acknowledge(self) -> None:
        """Release the messages of the change that the watch yielded last."""
        for delivery in chain.from_iterable(self._unacked.values()):
            delivery.release()
        self._unacked = {}

    def release_except(self, keys: Container[str]) -> None:
        """Release the messages of checked keys that have no change to yield.

        Args:
            keys: the keys that still have a change to yield. Their messages are held.
        """
        for key in [key for key in self._pending if key not in keys]:
            for delivery in self._pending.pop(key):
                delivery.release()


class Queues:
    """Returns the SQS queues of a Session, one object for each client and URL."""

    def __init__(self) -> None:
        self._queues: WeakValueDictionary[tuple[Service, str], Queue] = WeakValueDictionary()

    def queue(self, sqs: Service, url: str) -> Queue:
        """Return the queue of a URL.

        All calls with the same client and URL return the same object while a caller refers to it.
        """
        key = (sqs, url)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = Queue(sqs, url)
        return queue


class Queue:
    """Reads an SQS queue, and passes the events to the listeners of the queue.

    The task of one listener, the leader, sends the requests for all of them.
    """

    def __init__(self, sqs: Service, url: str) -> None:
        self._sqs = sqs
        self._url = url
        self._leaders: LeaderQueue[Listener] = LeaderQueue()
        self._listeners: WeakSet[Listener] = WeakSet()
        self._sequencers: OrderedDict[tuple[str, str], str | None] = OrderedDict()
        self._to_delete: list[str] = []
        self._receives = 1
        self._failures = 0
        self._warned_foreign = False

    def join(self, listener: Listener) -> None:
        """Pass events to this listener too, until :meth:`leave` or until the listener is freed."""
        self._listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        """Stop passing events to this listener. SQS delivers the messages that it holds again."""
        self._listeners.discard(listener)

    async def listen(self, listener: Listener) -> None:
        """Read the queue until this listener is settled. AWS: ReceiveMessage.

        A permanent error settles the listener, and is stored in ``listener.failure``.
        """
        await self._leaders.wait(listener, self._receive_and_route, lambda: True)

    async def delete_acked(self) -> None:
        """Delete the messages that have no holders. AWS: DeleteMessageBatch.

        If SQS does not delete a message, SQS delivers the message again, which does no harm. If a
        request is cancelled, the next call deletes its messages.
        """
        receipts, self._to_delete[:] = list(self._to_delete), []
        if not receipts:
            return
        requests = [partial(self._delete, batch) for batch in batches(receipts, _BATCH)]
        await run_limited(requests, len(requests))

    async def _delete(self, receipts: Sequence[str]) -> None:
        completed = False
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
            completed = True
            _log.warning(
                "deleting %d messages from %s failed, so SQS delivers them again: %s",
                len(receipts),
                self._url,
                error,
            )
            return
        else:
            completed = True
        finally:
            if not completed:
                self._to_delete += receipts
        for failed in answer.get("Failed", ()):
            _log.warning(
                "deleting a message from %s failed, so SQS delivers the message again: %s",
                self._url,
                failed,
            )

    async def _receive_and_route(self) -> None:
        """Receive messages, and pass their events to the listeners.

        Several requests run at the same time while every request returns 10 messages.
        """
        try:
            await self.delete_acked()
            if self._receives == 1:
                messages = await self._receive(_LONG_POLL)
            else:
                messages = await self._receive_many(self._receives)
        except ServiceError as error:
            await self._handle_service_error(error)
            return
        except HaulError as error:
            self._fail(error)
            return
        self._failures = 0
        full = len(messages) >= self._receives * _BATCH
        self._receives = min(self._receives * 2, _MAX_RECEIVES) if full else 1
        with translated("ReceiveMessage", self._url):
            received = [(each["Body"], each["ReceiptHandle"]) for each in messages]
        for body, receipt in received:
            self._route(body, receipt)

    async def _receive(self, seconds: int) -> list[answers.Message]:
        answer = await self._sqs.call(
            "receive_message",
            self._url,
            QueueUrl=self._url,
            MaxNumberOfMessages=_BATCH,
            WaitTimeSeconds=seconds,
        )
        return answer.get("Messages", [])

    async def _receive_many(self, requests: int) -> list[answers.Message]:
        """Receive the messages that are in the queue now, with concurrent requests.

        Raises:
            ServiceError: a request failed, and the other requests returned no message.
        """
        messages: list[answers.Message] = []
        failures: list[ServiceError] = []

        async def receive() -> None:
            try:
                messages.extend(await self._receive(0))
            except ServiceError as error:
                failures.append(error)

        await run_limited([receive] * requests, requests)
        if failures and not messages:
            raise failures[0]
        return messages

    def _route(self, body: str, receipt: str) -> None:
        """Pass the events of a message to the listeners that want them."""
        events = events_of(body)
        buckets = {listener.bucket for listener in self._listeners}
        if events is None or any(each.bucket not in buckets for each in events):
            self._warn_foreign()
            return
        ack = MessageAck(receipt, self._to_delete).hold()
        for event in events:
            if event.created:
                self._dispatch(event, ack)
        ack.release()

    def _dispatch(self, event: S3Event, ack: MessageAck) -> None:
        interested = [listener for listener in self._listeners if listener.wants(event)]
        if not interested:
            return
        key = (event.bucket, event.key)
        if is_later(event.sequencer, self._sequencers.get(key)):
            self._sequencers[key] = event.sequencer
            self._sequencers.move_to_end(key)
            if len(self._sequencers) > _MAX_SEQUENCERS:
                self._sequencers.popitem(last=False)
            add = Listener.mark_dirty
        else:  # the event is repeated, or older than one that a listener has already
            add = Listener.add_repeated
        for listener in interested:
            add(listener, event.key, ack)

    def _warn_foreign(self) -> None:
        """Log a warning, once, about a message that is not about a watched bucket.

        The message is not deleted, so the redrive policy of the queue applies.
        """
        if not self._warned_foreign:
            self._warned_foreign = True
            _log.warning(
                "%s has messages that are not S3 events of a watched bucket: they stay in the"
                " queue. Use a queue that receives events of this bucket only",
                self._url,
            )

    async def _handle_service_error(self, error: ServiceError) -> None:
        if not error.retryable:
            self._fail(error)
            return
        for listener in list(self._listeners):
            listener.on_queue_unavailable(error)
        self._failures += 1
        await anyio.sleep(backoff_delay(self._failures + 1, error.retry_after))

    def _fail(self, error: HaulError) -> None:
        for listener in self._leaders:
            listener.failure = error
            listener.settle()


def queue_settings(settings: Settings, url: str) -> Settings:
    """Return the settings of the client that reads a queue.

    Args:
        settings: the credentials, and the region if the URL has none.
        url: the URL of the queue. The client uses its host as the endpoint, and its region.

    Raises:
        SettingsError: ``url`` is not a URL.
    """
    try:
        check_endpoint_url(url)
    except SettingsError:
        # The URL is not repeated, because it may have a password.
        raise SettingsError(
            "reading the queue failed: its URL is not the URL of an SQS queue. Use"
            " https://sqs.REGION.amazonaws.com/ACCOUNT/NAME, without user, password and query"
        ) from None
    parts = urlsplit(url)
    region = _REGION.search(parts.hostname or "")
    return replace(
        settings,
        endpoint_url=f"{parts.scheme}://{parts.netloc}",
        region=region[1] if region else settings.region,
    )
