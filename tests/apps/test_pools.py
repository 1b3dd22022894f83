"""Pools of processes, in an application that has used the library before it made them."""

from __future__ import annotations

import sys

import pytest

from tests.apps.applications import HERE, Aws

COPIED = 15


@pytest.mark.parametrize("method", ["fork", "spawn"])
async def test_workers_copy_and_their_errors_arrive(aws: Aws, method: str) -> None:
    aws.put({str(number): b"x" for number in range(COPIED)})
    async with aws.running(sys.executable, HERE / "pools.py", method) as process:
        assert await process.ended() == 0, process.text
    told = [line for line in process.lines if "Warning" not in line]
    assert told[:2] == ["ObjectNotFoundError s3://inbox/src/none 404", "BucketNotFoundError"]
    if method == "fork":
        assert told[2].startswith("SessionError this Session belongs to the parent process")
    assert sorted(aws.reports(), key=int) == [str(number) for number in range(COPIED)]
    await aws.let_go()
