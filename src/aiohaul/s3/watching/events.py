"""Pure: what the messages of a queue say that S3's notifications, SNS or EventBridge fill."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

#: SNS may stand around EventBridge, which may stand around nothing else.
_DEPTH = 3
#: How the names of notifications begin that tell of an object that is there.
_CREATED = ("ObjectCreated:", "s3:ObjectCreated:")


@dataclass(frozen=True, slots=True)
class Notice:
    """What one event says happened.

    Attributes:
        bucket: where.
        key: to which object, decoded.
        created: True if an object was written there, whatever the way.
        sequencer: orders the events of one key; None if the event has none.
    """

    bucket: str
    key: str
    created: bool
    sequencer: str | None


def notices(body: str) -> Sequence[Notice] | None:
    """What a message says.

    Args:
        body: of an SQS message: S3's own, or SNS's or EventBridge's around it.

    Returns:
        Its events; none for S3's test event; None for a message that is not about S3.
    """
    try:
        return _notices(json.loads(body), _DEPTH)
    except (ValueError, RecursionError):
        return None


def is_later(sequencer: str | None, known: str | None) -> bool:
    """Whether an event of a key comes after the one that is known, or that is not known.

    Sequencers are hexadecimal; the shorter of two is filled up with zeros on the right.
    """
    if sequencer is None or known is None:
        return True
    width = max(len(sequencer), len(known))
    return sequencer.upper().ljust(width, "0") > known.upper().ljust(width, "0")


def _notices(told: Any, depth: int) -> Sequence[Notice] | None:
    if not isinstance(told, Mapping) or not depth:
        return None
    if isinstance(told.get("Records"), list):
        found = [_of_s3(each) for each in told["Records"]]
        known = [each for each in found if each is not None]
        return known if len(known) == len(found) else None
    if told.get("Event") == "s3:TestEvent":
        return ()
    if told.get("Type") == "Notification" and isinstance(told.get("Message"), str):
        return _notices(json.loads(told["Message"]), depth - 1)
    if told.get("source") == "aws.s3":
        notice = _of_eventbridge(told)
        return None if notice is None else [notice]
    return None


def _of_s3(record: Any) -> Notice | None:
    try:
        if not str(record["eventSource"]).endswith(":s3"):  # servers other than AWS: minio:s3
            return None
        thing = record["s3"]["object"]
        return _notice(
            record["s3"]["bucket"]["name"],
            unquote_plus(thing["key"]),
            thing.get("sequencer"),
            created=record["eventName"].startswith(_CREATED),
        )
    except (AttributeError, KeyError, TypeError):
        return None


def _of_eventbridge(told: Mapping[str, Any]) -> Notice | None:
    try:
        detail = told["detail"]
        thing = detail["object"]
        return _notice(
            detail["bucket"]["name"],
            thing["key"],  # not encoded, unlike those of S3's own notifications
            thing.get("sequencer"),
            created=told["detail-type"] == "Object Created",
        )
    except (AttributeError, KeyError, TypeError):
        return None


def _notice(bucket: Any, key: Any, sequencer: Any, *, created: bool) -> Notice | None:
    if not isinstance(bucket, str) or not isinstance(key, str):
        return None
    return Notice(bucket, key, created, sequencer if isinstance(sequencer, str) else None)
