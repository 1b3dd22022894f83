"""Parses S3 events in SQS messages, which come from S3 directly, through SNS or EventBridge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote, unquote_plus

#: Levels of JSON that are parsed: an event of EventBridge inside a notification of SNS has two.
_DEPTH = 3
#: Prefixes of the event names that S3 uses when an object was written.
_CREATED = ("ObjectCreated:", "s3:ObjectCreated:")


@dataclass(frozen=True, slots=True)
class S3Event:
    """An event that S3 sent about one object.

    Attributes:
        bucket: the bucket of the object.
        key: the key of the object, without percent-encoding.
        created: True if an operation, such as PutObject or CopyObject, wrote the object.
        sequencer: S3's hexadecimal value that orders the events of one key; None if the event
            has none.
    """

    bucket: str
    key: str
    created: bool
    sequencer: str | None


def events_of(body: str) -> Sequence[S3Event] | None:
    """Parse the events of an SQS message.

    Args:
        body: the body of the message: a notification of S3, or a notification of SNS or an event
            of EventBridge that contains an S3 event.

    Returns:
        The events of the message. The sequence is empty for S3's test event. None if the message
        is not about S3. If a key from EventBridge may be percent-encoded, there are two events:
        one with the key as received, one with the decoded key.
    """
    try:
        return _parse(json.loads(body), _DEPTH)
    except (ValueError, RecursionError):
        return None


def is_later(sequencer: str | None, known: str | None) -> bool:
    """Return True if an event is later than the last known event of the same key.

    Sequencers are hexadecimal. The shorter one is padded with zeros on the right, as S3 documents.
    If one of the two events has no sequencer, the answer is True.
    """
    if sequencer is None or known is None:
        return True
    width = max(len(sequencer), len(known))
    return sequencer.upper().ljust(width, "0") > known.upper().ljust(width, "0")


def _parse(message: object, depth: int) -> Sequence[S3Event] | None:
    if not isinstance(message, Mapping) or not depth:
        return None
    if isinstance(message.get("Records"), list):
        found = [_from_s3(each) for each in message["Records"]]
        known = [each for each in found if each is not None]
        return known if len(known) == len(found) else None
    if message.get("Event") == "s3:TestEvent":
        return ()
    if message.get("Type") == "Notification" and isinstance(message.get("Message"), str):
        return _parse(json.loads(message["Message"]), depth - 1)
    if message.get("source") == "aws.s3":
        return _from_eventbridge(message)
    return None


def _from_s3(record: object) -> S3Event | None:
    source, name = _field(record, "eventSource"), _field(record, "eventName")
    key = _field(record, "s3", "object", "key")
    if not isinstance(source, str) or not isinstance(name, str) or not isinstance(key, str):
        return None
    if not source.endswith(":s3"):  # servers other than AWS: minio:s3
        return None
    return _event(
        _field(record, "s3", "bucket", "name"),
        unquote_plus(key),
        _field(record, "s3", "object", "sequencer"),
        created=name.startswith(_CREATED),
    )


def _from_eventbridge(message: object) -> Sequence[S3Event] | None:
    """Return the event, and a second one with the decoded key if the key may be percent-encoded.

    AWS does not encode these keys, but some servers do, such as LocalStack. Usually only one of
    the two objects exists.
    """
    kind = _field(message, "detail-type")
    event = _event(
        _field(message, "detail", "bucket", "name"),
        _field(message, "detail", "object", "key"),
        _field(message, "detail", "object", "sequencer"),
        created=kind == "Object Created",
    )
    if event is None or kind is None:
        return None
    decoded = unquote(event.key)
    return [event] if decoded == event.key else [event, replace(event, key=decoded)]


def _event(bucket: object, key: object, sequencer: object, *, created: bool) -> S3Event | None:
    if not isinstance(bucket, str) or not isinstance(key, str):
        return None
    return S3Event(bucket, key, created, sequencer if isinstance(sequencer, str) else None)


def _field(value: object, *path: str) -> object:
    """Return the field at a path of nested JSON objects; None if a name is missing."""
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value
