"""Which permissions a definition needs in a bucket."""

from __future__ import annotations

from typing import Any

import pytest

from aiohaul import DefinitionError
from aiohaul.doctor.needs import PERMISSIONS, needs_of
from aiohaul.tasks.batch_definition import parse_any
from tests.support.store import PROTOCOL

READ = {"s3:ListBucket", "s3:GetObject", "s3:GetObjectTagging"}
WRITE = {
    "s3:GetObject",
    "s3:PutObject",
    "s3:PutObjectAcl",
    "s3:PutObjectTagging",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
    "s3:ListBucketMultipartUploads",
}
PLAIN = {"name": PROTOCOL}


def definition(action: dict[str, str] | None = None, **protocol: Any) -> dict[str, Any]:
    source = {"bucket": "in", "fileRegex": ".*", "protocol": PLAIN}
    return {
        "type": "transfer",
        "source": {**source, **({"postCopyAction": action} if action else {})},
        "destination": [
            {"bucket": "out", "protocol": {**PLAIN, **protocol}},
            {"directory": "/there", "protocol": {"name": "local"}},
        ],
    }


def needed(task: dict[str, Any], bucket: str, **tasks: dict[str, Any]) -> set[str]:
    permissions = needs_of(parse_any(task, tasks or None), bucket).permissions
    assert permissions is not None
    assert permissions.keys() <= PERMISSIONS.keys()
    return set(permissions)


def test_source_and_destination() -> None:
    assert needed(definition(), "in") == READ
    assert needed(definition(), "out") == WRITE
    without = definition(disableBucketOwnerControlACL=True)
    assert needed(without, "out") == WRITE - {"s3:PutObjectAcl"}


def test_watch_only_lists() -> None:
    watch = definition()
    del watch["destination"]
    assert needed(watch, "in") == {"s3:ListBucket"}


@pytest.mark.parametrize(
    ("action", "source", "archive"),
    [
        ({"action": "delete"}, READ | {"s3:DeleteObject"}, None),
        (
            {"action": "move", "destination": "done/"},
            READ | WRITE | {"s3:DeleteObject"},
            None,
        ),
        (
            {"action": "move", "destination": "s3://archive/done/"},
            READ | {"s3:DeleteObject"},
            WRITE,
        ),
    ],
)
def test_actions(action: dict[str, str], source: set[str], archive: set[str] | None) -> None:
    assert needed(definition(action), "in") == source
    if archive is not None:
        assert needed(definition(action), "archive") == archive


def test_flag() -> None:
    touch = {"type": "execution", "bucket": "out", "key": "a", "protocol": PLAIN}
    assert needed(touch, "out") == {"s3:PutObject", "s3:PutObjectAcl"}


def test_batch_needs_what_its_tasks_need() -> None:
    batch = {"type": "batch", "tasks": [{"order_id": 1, "task_id": "one"}]}
    assert needed(batch, "out", one=definition()) == WRITE


def test_bucket_that_is_not_used() -> None:
    with pytest.raises(DefinitionError, match="does not use the bucket s3://other/"):
        needs_of(parse_any(definition(), None), "other")


def test_payer_and_owner_are_those_of_the_side() -> None:
    task = definition({"action": "move", "destination": "s3://archive/x/"})
    owners = {"in": "111122223333", "out": "222233334444", "archive": "333344445555"}
    task["source"] |= {"requestPayer": "requester", "expectedBucketOwner": owners["in"]}
    task["source"]["postCopyAction"]["expectedBucketOwner"] = owners["archive"]
    task["destination"][0]["expectedBucketOwner"] = owners["out"]
    for bucket, owner in owners.items():
        options = needs_of(parse_any(task, None), bucket).options
        assert options.expected_bucket_owner == owner
        assert options.request_payer == ("requester" if bucket == "in" else None)


def test_credentials_are_those_of_the_side() -> None:
    role = "arn:aws:iam::111122223333:role/in"
    found = needs_of(parse_any(definition(assume_role_arn=role), None), "out")
    assert found.settings.role_arn == role
    assert (
        needs_of(parse_any(definition(assume_role_arn=role), None), "in").settings.role_arn is None
    )
