"""Definitions that are wrong: refused before any request, with the path and what was expected."""

from __future__ import annotations

import copy
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aiohaul
from aiohaul.tasks.compute_definition import with_parsed_payload
from aiohaul.tasks.definition import Touch, Transfer, parse
from tests.support.store import PROTOCOL

GOOD: dict[str, Any] = {
    "type": "transfer",
    "source": {
        "bucket": "in",
        "directory": "src",
        "fileRegex": r".*\.txt",
        "fileWatch": {"timeout": 15},
        "conditionals": {"size": {"gt": 1}},
        "postCopyAction": {"action": "move", "destination": "done/"},
        "protocol": {"name": PROTOCOL},
    },
    "destination": [
        {
            "bucket": "out",
            "directory": "dest",
            "rename": {"pattern": "(a)", "sub": r"\1"},
            "flags": {"fullPath": "f"},
            "protocol": {"name": PROTOCOL},
        },
        {"directory": "/tmp/x", "protocol": {"name": "local"}},  # noqa: S108
    ],
}
TOUCH: dict[str, Any] = {
    "type": "execution",
    "bucket": "b",
    "key": "k",
    "protocol": {"name": PROTOCOL},
}
ABSENT = object()


def changed(definition: Any, path: str, value: Any) -> Any:
    made = copy.deepcopy(definition)
    *parents, last = [int(key) if key.isdigit() else key for key in path.split("/")]
    place = made
    for key in parents:
        place = place[key]
    if value is ABSENT:
        del place[last]
    else:
        place[last] = value
    return made


def test_good_definitions() -> None:
    assert isinstance(parse(GOOD), Transfer)
    assert isinstance(parse(TOUCH), Touch)
    aiohaul.validate(GOOD)


def test_definition_is_not_changed_by_reading_it() -> None:
    given_ = copy.deepcopy(GOOD)
    parse(given_)
    assert given_ == GOOD


WRONG = [
    # what is changed, to what, the path in the message, what else the message says
    ("type", "transfers", "type", 'unknown type: "transfers"'),
    ("type", ABSENT, "type", "missing"),
    ("source", ABSENT, "definition", "'source' is missing"),
    ("sauce", {}, "definition", "unknown key 'sauce'; did you mean 'source'?"),
    ("conditionals", {}, "definition", "unknown key 'conditionals'"),
    ("destination", {}, "destination", "is not a list of destinations"),
    ("source/bucket", ABSENT, "source", "'bucket' is missing"),
    ("source/bucket", 3, "source.bucket", "3 is not the name of a bucket"),
    ("source/postCopyAction", {}, "source.postCopyAction", "'action' is missing"),
    (
        "source/postCopyAction/destination",
        "src/",
        "source.postCopyAction.destination",
        "Use another directory",
    ),
    (
        "source/postCopyAction/destination",
        "s3://in/src/",
        "source.postCopyAction",
        "Use another directory",
    ),
    ("destination/1/mode", "2775", "destination[1].mode", "permission bits"),
    ("source/conditionals/size", {"gt": 9, "lt": 3}, "source.conditionals.size", "no value is"),
    ("source/conditionals/age", {"gt": 3, "lt": 3}, "source.conditionals.age", "no value is"),
    ("source/conditionals/count", {"minCount": 2, "maxCount": 1}, "source.conditionals.count", ""),
    ("destination/0/flags", {"fullpath": "f"}, "destination[0].flags", "did you mean 'fullPath'"),
    ("source/directory", "/src", "source.directory", "without leading or trailing '/'"),
    ("source/directory", "src/", "source.directory", "without leading or trailing '/'"),
    ("source/fileRegex", ABSENT, "source", "'fileRegex' is missing"),
    ("source/fileRegex", "([", "source.fileRegex", "unterminated character set"),
    ("source/fileRegexp", "a", "source", "did you mean 'fileRegex'?"),
    ("source/fileWatch/timeout", "15", "source.fileWatch.timeout", "a number of seconds"),
    ("source/fileWatch/timeout", -1, "source.fileWatch.timeout", "0 or more"),
    ("source/fileWatch/sleepTime", 0, "source.fileWatch.sleepTime", "more than 0"),
    ("source/conditionals/size", {}, "source.conditionals.size", "'gt' or 'lt'"),
    ("source/conditionals/size/gt", "1", "source.conditionals.size.gt", "a number of bytes"),
    ("source/postCopyAction/action", "mv", "source.postCopyAction.action", "move, rename"),
    ("source/postCopyAction/destination", ABSENT, "source.postCopyAction", "'destination' is"),
    ("source/postCopyAction/destination", "done", "source.postCopyAction.destination", "ends in"),
    ("source/postCopyAction/destination", "s3://", "source.postCopyAction.destination", "s3://"),
    ("source/postCopyAction/destination", "s3://b", "source.postCopyAction.destination", "s3://"),
    ("source/postCopyAction/pattern", "x", "source.postCopyAction.pattern", "rename"),
    ("source/postCopyAction/action", "rename", "source.postCopyAction", "'pattern' is missing"),
    ("source/protocol/name", "s4", "source.protocol.name", 'unknown protocol "s4"'),
    ("source/protocol/access_key_id", "AK", "source.protocol", "'secret_access_key' is missing"),
    ("source/protocol/secret_access_key", "x", "source.protocol", "'access_key_id' is missing"),
    ("source/protocol/session_token", "x", "source.protocol", "'access_key_id' is missing"),
    ("source/protocol/assume_role_external_id", "x", "source.protocol", "'assume_role_arn' is"),
    ("source/protocol/token_expiry_seconds", 900, "source.protocol", "'assume_role_arn' is"),
    ("source/protocol/endpoint_url", "localhost", "source.protocol.endpoint_url", "https://"),
    ("source/protocol/endpoint_url", "http://::1]:9000/", "source.protocol", "endpoint_url is not"),
    ("source/protocol/endpoint_url", "http://h:0", "source.protocol", "endpoint_url is not"),
    ("destination/0/protocol/endpoint_url", "http://[", "destination[0].protocol", "endpoint_url"),
    ("destination/0/bucket", ABSENT, "destination[0]", "'bucket' is missing"),
    ("destination/0/directory", "/d", "destination[0].directory", "without leading"),
    ("destination/0/rename/sub", r"\2", "destination[0].rename.sub", "invalid group reference"),
    ("destination/0/rename/pattern", "(", "destination[0].rename.pattern", "missing )"),
    (
        "destination/0/flag",
        {"fullPath": "g"},
        "destination[0]",
        "mean the same: remove one of them",
    ),
    ("destination/0/transferType", "pull", "destination[0].transferType", "push or proxy"),
    ("destination", [], "destination", "the list is empty"),
    ("source/bucket", "UPPER!!", "source.bucket", "is not the name of a bucket"),
    ("source/bucket", "in\n", "source.bucket", "is not the name of a bucket"),
    ("source/bucket", "a\0b", "source.bucket", "NUL"),
    ("source/directory", "\ud800", "source.directory", "half of a Unicode character"),
    ("source/fileWatch/timeout", 10**400, "source.fileWatch.timeout", "number between"),
    ("source/fileWatch/timeout", float("nan"), "source.fileWatch.timeout", "number between"),
    ("source/fileRegex", "a{99999999999999}", "source.fileRegex", "regex"),
    ("source/fileRegex", "(" * 5000 + ")" * 5000, "source.fileRegex", "regex"),
    ("source/postCopyAction/destination", "a/\n", "source.postCopyAction.destination", "ends in"),
    ("destination/1/mode", "rw", "destination[1].mode", "octal"),
    ("destination/0/storageClass", "", "destination[0].storageClass", "such as 'STANDARD_IA'"),
    ("destination/0/storageClass", "IA\n", "destination[0].storageClass", "such as 'STANDARD_IA'"),
    ("destination/0/kmsKeyId", "a b", "destination[0].kmsKeyId", "such as 'alias/my-key'"),
    ("destination/0/requestPayer", True, "destination[0].requestPayer", "the only value"),
    ("destination/0/expectedBucketOwner", 111122223333, "destination[0].expected", "12 digits"),
    ("destination/0/ignoreStorageClasses", ["A"], "destination[0]", "unknown key 'ignoreStorage"),
    ("destination/1/storageClass", "A", "destination[1]", "unknown key 'storageClass'"),
    ("source/requestPayer", "me", "source.requestPayer", "'requester', the only value"),
    ("source/expectedBucketOwner", "1234", "source.expectedBucketOwner", "12 digits"),
    ("source/ignoreStorageClasses", "GLACIER", "source.ignoreStorageClasses", "a list of"),
    ("source/ignoreStorageClasses", ["A B"], "source.ignoreStorageClasses[0]", "storage class"),
    ("source/storageClass", "A", "source", "unknown key 'storageClass'"),
    ("source/postCopyAction/storageClass", 1, "source.postCopyAction.storageClass", "such as"),
    (
        "source/postCopyAction",
        {"action": "delete", "kmsKeyId": "k"},
        "source.postCopyAction.kmsKeyId",
        "no kmsKeyId: this action writes no object",
    ),
    ("destination/1/directory", ABSENT, "destination[1]", "'directory' is missing"),
]


@pytest.mark.parametrize(("path", "value", "place", "says"), WRONG)
def test_wrong_definition(path: str, value: Any, place: str, says: str) -> None:
    with pytest.raises(aiohaul.DefinitionError) as raised:
        parse(changed(GOOD, path, value))
    assert str(raised.value).startswith(place)
    assert says in str(raised.value)
    assert not isinstance(raised.value, aiohaul.UnsupportedError)


@pytest.mark.parametrize(
    ("path", "value", "place", "says"),
    [
        (
            "source/protocol/name",
            "ssh",
            "source.protocol.name",
            'only Open Task Framework supports the protocol "ssh"',
        ),
        ("destination/1/protocol/name", "email", "destination[1].protocol.name", "task-run"),
        ("source/encryption", {"decrypt": True}, "source.encryption", "PGP"),
        ("destination/0/encryption", {"encrypt": True}, "destination[0].encryption", "PGP"),
        ("source/logWatch", {"log": "x"}, "source.logWatch", "log watch"),
        ("source/bucket", "{{ BUCKET }}", "source.bucket", "template"),
        ("destination/0/flags/fullPath", "{{ X }}.flg", "destination[0].flags.fullPath", "templ"),
    ],
)
def test_what_is_the_frameworks_own_is_said_to_be_so(
    path: str, value: Any, place: str, says: str
) -> None:
    with pytest.raises(aiohaul.UnsupportedError) as raised:
        parse(changed(GOOD, path, value))
    assert raised.value.path == place
    assert says in str(raised.value)
    assert "Open Task Framework" in str(raised.value)


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        ("key", ABSENT, "definition"),
        ("key", "/k", "key"),
        ("bucket", "", "bucket"),
        ("protocol", ABSENT, "protocol.name"),
        ("protocol/name", "s4", "protocol.name"),
        ("protocol/name", "ssh", "protocol.name"),
        ("storageClass", "", "storageClass"),
        ("expectedBucketOwner", "me", "expectedBucketOwner"),
        ("protocol/endpoint_url", "http://::1]", "protocol"),
    ],
)
def test_wrong_execution(path: str, value: Any, place: str) -> None:
    with pytest.raises(aiohaul.DefinitionError) as raised:
        parse(changed(TOUCH, path, value))
    assert raised.value.path == (place if place != "definition" else "")


@pytest.mark.parametrize(
    "definition", [None, [], "transfer", {}, {"type": None}, {"type": "batch"}]
)
async def test_what_is_no_definition(definition: Any) -> None:
    with pytest.raises(aiohaul.DefinitionError):
        await aiohaul.run(definition)


def test_both_spellings_of_the_acl() -> None:
    def acl(**given_: bool) -> bool:
        task = parse(changed(TOUCH, "protocol", {"name": PROTOCOL, **given_}))
        assert isinstance(task, Touch)
        return task.options.bucket_owner_full_control

    assert acl()
    assert acl(disableBucketOwnerControlACL=False)
    assert acl(bucket_owner_full_control=True)
    assert not acl(disableBucketOwnerControlACL=True)
    assert not acl(bucket_owner_full_control=False)
    assert acl(disableBucketOwnerControlACL=False, bucket_owner_full_control=True)
    with pytest.raises(aiohaul.DefinitionError, match="contradicts"):
        acl(disableBucketOwnerControlACL=True, bucket_owner_full_control=True)


def test_seeds_spelling_of_the_flag_and_a_watch_that_stands_in_for_the_source() -> None:
    task = parse(
        {
            "type": "transfer",
            "source": {
                "bucket": "b",
                "fileWatch": {"directory": "src", "fileRegex": "a"},
                "protocol": {"name": PROTOCOL},
            },
            "destination": [
                {"bucket": "b", "flag": {"fullPath": "/f"}, "protocol": {"name": PROTOCOL}}
            ],
        }
    )
    assert isinstance(task, Transfer)
    assert (task.source.directory, task.source.pattern.pattern) == ("src", "a")
    (destination,) = task.destinations
    assert destination.flag == "f"


def test_secret_of_the_wrong_type_is_not_in_the_message() -> None:
    protocol = {"name": PROTOCOL, "access_key_id": "AK", "secret_access_key": ["s3cr3t"]}
    with pytest.raises(aiohaul.DefinitionError) as raised:
        parse(changed(GOOD, "source/protocol", protocol))
    assert "s3cr3t" not in str(raised.value)


@pytest.mark.parametrize(
    "path",
    ["source", "destination", "source/protocol", "source/bucket", "source/directory"],
)
@pytest.mark.parametrize("shape", [lambda x: [x], lambda x: {"x": x}, lambda x: {"protocol": x}])
def test_secret_in_the_wrong_place_is_not_in_the_message(path: str, shape: Any) -> None:
    protocol = {"name": PROTOCOL, "secret_access_key": "s3cr3t", "access_key_id": "AK"}
    with pytest.raises(aiohaul.DefinitionError) as raised:
        parse(changed(GOOD, path, shape(protocol)))
    assert "s3cr3t" not in str(raised.value)


def test_password_of_an_endpoint_is_not_in_the_message() -> None:
    protocol = {"name": PROTOCOL, "endpoint_url": "user:s3cr3t@host"}
    with pytest.raises(aiohaul.DefinitionError) as raised:
        parse(changed(GOOD, "source/protocol", protocol))
    assert "s3cr3t" not in str(raised.value)


def test_follow_links_is_true_or_false() -> None:
    side = {"directory": "/in", "fileRegex": ".*", "protocol": {"name": "local"}}
    with pytest.raises(aiohaul.DefinitionError) as wrong:
        parse({"type": "transfer", "source": {**side, "followLinks": "no"}})
    assert str(wrong.value) == 'source.followLinks: "no" is not true, or false to omit links'


def test_local_rename_needs_a_directory() -> None:
    side = {"directory": "/in", "fileRegex": ".*", "protocol": {"name": "local"}}
    action = {"action": "rename", "destination": "old", "pattern": "a", "sub": "b"}
    with pytest.raises(aiohaul.DefinitionError, match=r"postCopyAction\.destination.*directory"):
        parse(changed(GOOD, "source", {**side, "postCopyAction": action}))


@pytest.mark.parametrize("mode", ["640", "0640", "0o640"])
def test_modes(mode: str) -> None:
    task = parse(changed(GOOD, "destination/1/mode", mode))
    assert isinstance(task, Transfer)
    (_, local) = task.destinations
    assert isinstance(local, aiohaul.LocalDestination)
    assert local.mode == int(mode, 8)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    wrong = changed(changed(GOOD, "source/bucket", 3), "source/fileWatch/timeout", "x")
    with pytest.raises(aiohaul.DefinitionError) as raised:
        parse(wrong)
    assert "source.bucket: 3 is not the name of a bucket" in str(raised.value)
    assert 'source.fileWatch.timeout: "x" is not a number of seconds' in str(raised.value)


def test_key_that_is_no_text() -> None:
    with pytest.raises(aiohaul.DefinitionError, match="not a string"):
        parse(changed(GOOD, "source", {1: 2}))


def test_secret_is_not_in_a_repr() -> None:
    keys = {"access_key_id": "AK", "secret_access_key": "s3cr3t", "session_token": "t0k3n"}
    task = parse(changed(GOOD, "source/protocol", {"name": PROTOCOL, **keys}))
    assert "AK" not in repr(task)  # it may be the secret key by mistake
    assert "s3cr3t" not in repr(task)
    assert "t0k3n" not in repr(task)


def test_local_paths() -> None:
    task = parse(GOOD)
    assert isinstance(task, Transfer)
    assert task.destinations[1] == aiohaul.LocalDestination(directory=Path("/tmp/x"))  # noqa: S108


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def places(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    inner: Any = {}
    if isinstance(value, dict):
        inner = value
    elif isinstance(value, list):
        inner = dict(enumerate(value))
    found = [path] if path else []
    for key, each in inner.items():
        found += places(each, (*path, str(key)))
    return found


@given(place=st.sampled_from(places(GOOD)), value=json_values)
def test_any_change_gives_a_task_or_a_definition_error(place: tuple[str, ...], value: Any) -> None:
    with suppress(aiohaul.DefinitionError):
        assert isinstance(parse(changed(GOOD, "/".join(place), value)), Transfer | Touch)


@pytest.mark.parametrize(
    ("payload", "parsed"),
    [
        ('{"day": "2026-01-31"}', {"day": "2026-01-31"}),
        ("[1]", [1]),
        ("7", "7"),
        ('"text"', '"text"'),
        ("{day}", "{day}"),
        ("[" * 100_000, "[" * 100_000),
        ({"day": "{}"}, {"day": "{}"}),
        (None, None),
    ],
)
def test_payload_that_a_template_left_as_json_is_parsed(payload: Any, parsed: Any) -> None:
    given = {"functionArn": "work", "payload": payload}
    assert with_parsed_payload(given) == {"functionArn": "work", "payload": parsed}
    assert given["payload"] is payload


def test_definition_without_a_payload_stays_as_it_is() -> None:
    assert with_parsed_payload({"type": "transfer"}) == {"type": "transfer"}
