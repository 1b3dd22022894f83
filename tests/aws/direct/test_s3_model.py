"""The part of S3's model in the package is botocore's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aiohaul.aws.direct.model import FILE, known
from aiohaul.aws.direct.serializer import OPERATIONS
from tests.support.s3_model import s3_model

OURS: dict[str, Any] = json.loads(FILE.read_bytes())
THEIRS = s3_model()


def test_every_operation_is_there_and_can_be_sent() -> None:
    assert OURS.keys() == THEIRS.keys() == set(OPERATIONS.values())
    assert all(known(method) is not None for method in OPERATIONS)


@pytest.mark.parametrize("name", sorted(OURS))
def test_operation_is_botocores(name: str) -> None:
    """Members that this botocore adds are left to it: requests with them are not built here."""
    agree(OURS[name], THEIRS[name], name)


def agree(ours: Any, theirs: Any, at: str) -> None:
    if isinstance(ours, dict) and at.endswith(".members"):
        common = ours.keys() & theirs.keys()
        missing = ours.keys() - common  # of an older botocore
        assert len(missing) <= len(ours) // 4, at
        for name in common:
            agree(ours[name], theirs[name], f"{at}.{name}")
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), at
        for name, value in ours.items():
            agree(value, theirs[name], f"{at}.{name}")
    else:
        assert ours == theirs, at
