"""Messages of a queue: what they say, whoever wrapped them, and that nothing foreign does harm."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_plus, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohaul.s3.watching.events import S3Event, events_of, is_later
from tests.support.fake_sqs import TEST_EVENT, direct, through_eventbridge, through_sns

KEY = "in/red flower+ü%.jpg"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
#: The names that S3, SNS and EventBridge use, in every wrong place.
NAMES = st.sampled_from(
    [
        *("Records", "s3", "object", "key", "bucket", "name", "eventName", "eventSource"),
        *("aws:s3", "Type", "Notification", "Message", "source", "aws.s3", "detail"),
        *("detail-type", "Event", "s3:TestEvent", "sequencer", "{}", "[]", "ObjectCreated:Put"),
    ]
)
ALMOST = st.recursive(
    NAMES | st.none() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "body",
    [
        direct("b", quote_plus(KEY, safe="/"), "0A"),
        direct("b", quote_plus(KEY), "0A", eventSource="minio:s3"),
        through_sns(direct("b", quote_plus(KEY, safe="/"), "0A")),
        through_eventbridge("b", KEY, "0A"),
        through_sns(through_eventbridge("b", KEY, "0A")),
    ],
    ids=["direct", "another server", "SNS", "EventBridge", "EventBridge and SNS"],
)
def test_event_is_understood_whatever_is_around_it(body: str) -> None:
    assert events_of(body) == [S3Event("b", KEY, created=True, sequencer="0A")]


@pytest.mark.parametrize(
    ("name", "created"),
    [
        ("ObjectCreated:CompleteMultipartUpload", True),
        ("ObjectCreated:Copy", True),
        ("s3:ObjectCreated:Put", True),
        ("ObjectRemoved:Delete", False),
        ("ObjectRestore:Completed", False),
    ],
)
def test_kinds_of_events(name: str, created: bool) -> None:
    (notice,) = events_of(direct("b", "k", eventName=name)) or ()
    assert notice == S3Event("b", "k", created, None)


def test_test_event_says_nothing() -> None:
    assert events_of(TEST_EVENT) == ()
    assert events_of(through_sns(TEST_EVENT)) == ()


@pytest.mark.parametrize(
    "body",
    [
        "",
        "hello",
        "[]",
        "null",
        "{}",
        '{"Records": [{"eventSource": "aws:sqs"}]}',
        '{"Records": [1]}',
        '{"Type": "Notification", "Message": "hello"}',
        '{"Type": "SubscriptionConfirmation", "Message": "{}"}',
        '{"source": "aws.ec2", "detail": {}}',
        '{"source": "aws.s3", "detail": {"bucket": {"name": 1}, "object": {"key": "k"}}}',
        "[" * 100_000,
    ],
)
def test_foreign_message(body: str) -> None:
    assert events_of(body) is None


def test_message_with_one_foreign_record_is_foreign() -> None:
    told = json.loads(direct("b", "k"))
    told["Records"].append({"eventSource": "aws:sns"})
    assert events_of(json.dumps(told)) is None


@given(JSON | ALMOST)
def test_whatever_comes_is_understood_or_foreign(told: Any) -> None:
    for body in (json.dumps(told), through_sns(json.dumps(told))):
        found = events_of(body)
        assert found is None or all(isinstance(each, S3Event) for each in found)


@given(st.text())
def test_whatever_text_comes(body: str) -> None:
    found = events_of(body)
    assert found is None or all(isinstance(each, S3Event) for each in found)


@given(st.text(min_size=1), st.text(min_size=1))
def test_keys_come_back_as_they_are(bucket: str, key: str) -> None:
    try:
        encoded = quote_plus(key)
    except UnicodeEncodeError:  # half a surrogate pair is in no key
        return
    for body in (direct(bucket, encoded), through_sns(direct(bucket, encoded))):
        assert events_of(body) == [S3Event(bucket, key, created=True, sequencer=None)]
    first, *others = events_of(through_eventbridge(bucket, key)) or ()
    assert first == S3Event(bucket, key, created=True, sequencer="01")
    assert [each.key for each in others] == [unquote(key)] * (unquote(key) != key)


def test_eventbridge_key_has_two_readings() -> None:
    """AWS sends the key as it is, LocalStack percent-encodes it."""
    body = through_eventbridge("b", "in/a%20b%2B.csv")
    for each in (body, through_sns(body)):
        assert [event.key for event in events_of(each) or ()] == ["in/a%20b%2B.csv", "in/a b+.csv"]


def test_sequencers_of_different_lengths() -> None:
    assert is_later("0055AED6DCD90281E6", "0055AED6DCD90281E5")
    assert is_later("B", "0055AED6")
    assert not is_later("0055", "00550000")
    assert not is_later("0055aed6", "0055AED6")
    assert is_later(None, "0055")
    assert is_later("0055", None)


HEX = st.text("0123456789ABCDEF", min_size=1, max_size=8)


@given(HEX, HEX, HEX)
def test_sequencers_are_in_one_order(a: str, b: str, c: str) -> None:
    assert not (is_later(a, b) and is_later(b, a))
    if is_later(a, b) and is_later(b, c):
        assert is_later(a, c)
