"""The payer and the owner of a bucket, given on the command line."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from tests.support.commands import aiohaul
from tests.support.gateway import Gateway
from tests.support.store import Store

OWNER = "123456789012"


@pytest.mark.parametrize("command", ["watch", "doctor"])
async def test_requests_name_payer_and_owner(
    proxied: tuple[Gateway, Store], at: Any, command: str
) -> None:
    gate, s3 = proxied
    at(s3.url)
    sent: list[tuple[str, str, str]] = []

    def note(request: web.Request) -> None:
        payer, owner = "x-amz-request-payer", "x-amz-expected-bucket-owner"
        told = request.headers.get(payer, ""), request.headers.get(owner, "")
        sent.append((f"{request.method} {request.raw_path}", *told))

    bucket = await s3.bucket()
    await s3.put(bucket, "src/a", b"1")
    gate.noting = note
    options = ("--request-payer", "requester", "--expected-bucket-owner", OWNER)
    more = ("--timeout", "1") if command == "watch" else ()
    done = await aiohaul(command, f"s3://{bucket}/src", *options, *more)
    assert done.code == 0, done.err
    gate.noting = lambda _: None
    to_bucket = [each for each in sent if each[0].partition(" ")[2].startswith(f"/{bucket}")]
    assert to_bucket
    assert {owner for _, _, owner in to_bucket} == {OWNER}
    without = {place for place, payer, _ in to_bucket if payer != "requester"}
    free = {f"HEAD /{bucket}", f"GET /{bucket}?versioning", f"GET /{bucket}?object-lock"}
    assert without <= free


async def test_account_that_is_none_is_refused() -> None:
    done = await aiohaul("watch", "s3://b", "--expected-bucket-owner", "me")
    assert done.code == 2
    assert "'me' is not the id of an account, 12 digits" in done.err
