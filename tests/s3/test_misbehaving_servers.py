"""Servers and sources that misbehave: what is retried, what is refused, what is never lost."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import aiohaul
from tests.support.definitions import local, run, source, to, transfer
from tests.support.gateway import Gateway
from tests.support.store import Store

MIB = 1024 * 1024
Proxied = tuple[Gateway, Store]


async def failures(definition: dict[str, Any]) -> aiohaul.TransferReport:
    with pytest.raises(aiohaul.TransferError) as failed:
        await run(definition)
    return failed.value.report


async def one_object(s3: Store, data: bytes = b"data") -> tuple[str, str]:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", data)
    return inbox, out


@pytest.mark.parametrize(
    "what", [{"status": 503, "code": "SlowDown"}, {"status": 500}, {"drop": True}]
)
@pytest.mark.parametrize("match", ["^COPY", "list-type=2", r"\?delete"])
async def test_passing_faults_are_retried(
    proxied: Proxied, match: str, what: dict[str, Any]
) -> None:
    gateway, s3 = proxied
    inbox, out = await one_object(s3)
    gateway.rule(match, times=2, **what)
    await run(transfer(source(s3, inbox, postCopyAction={"action": "delete"}), to(s3, out)))
    assert await s3.contents(out) == {"a": b"data"}
    assert await s3.keys(inbox) == []


async def test_body_that_breaks_off_is_read_again(proxied: Proxied, tmp_path: Path) -> None:
    gateway, s3 = proxied
    data = bytes(range(256)) * 4096 * 17
    inbox, out = await one_object(s3, data)
    gateway.rule("GET .*/src/a", cut=True, times=2)
    await run(transfer(source(s3, inbox), to(s3, out, transferType="proxy"), local(tmp_path)))
    assert await s3.get(out, "a") == data
    assert (tmp_path / "a").read_bytes() == data


async def test_200_that_carries_an_error_is_an_error(proxied: Proxied) -> None:
    gateway, s3 = proxied
    inbox, out = await one_object(s3)
    body = b"<Error><Code>InternalError</Code><Message>too late</Message></Error>"
    gateway.rule("^COPY", body=body, times=1)
    await run(transfer(source(s3, inbox), to(s3, out)))
    assert gateway.count("^COPY") == 2
    gateway.rule("^COPY", body=body)
    report = await failures(
        transfer(source(s3, inbox, postCopyAction={"action": "delete"}), to(s3, out))
    )
    assert report.destinations[0].objects == 0
    assert await s3.keys(inbox) == ["src/a"]


async def test_delete_that_fails_for_one_key_is_reported_for_that_key(proxied: Proxied) -> None:
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {"src/a": b"", "src/b": b""})
    body = (
        b"<DeleteResult><Error><Key>src/b</Key><Code>AccessDenied</Code>"
        b"<Message>not yours</Message></Error></DeleteResult>"
    )
    gateway.rule(r"\?delete", body=body)
    report = await failures(
        transfer(source(s3, inbox, postCopyAction={"action": "delete"}), to(s3, out))
    )
    assert report.action is not None
    assert report.action.objects == 1
    (failure,) = report.action.failures
    assert (failure.source, failure.kind) == (f"s3://{inbox}/src/b", "AccessDeniedError")
    assert "s3:DeleteObject" in failure.error


@pytest.mark.parametrize("kind", ["push", "proxy"])
async def test_missing_source_bucket(proxied: Proxied, kind: str) -> None:
    _, s3 = proxied
    out = await s3.bucket()
    with pytest.raises(aiohaul.BucketNotFoundError, match=r"s3://no-such-bucket.*Create"):
        await run(transfer(source(s3, "no-such-bucket"), to(s3, out, transferType=kind)))


@pytest.mark.parametrize("kind", ["push", "proxy"])
async def test_missing_destination_bucket_is_asked_for_a_few_times_not_for_every_object(
    proxied: Proxied, kind: str
) -> None:
    gateway, s3 = proxied
    inbox = await s3.bucket()
    await s3.fill(inbox, {f"src/{n}": b"" for n in range(100)})
    async with aiohaul.Session(max_requests=4) as session:
        with pytest.raises(aiohaul.TransferError) as failed:
            await run(
                transfer(source(s3, inbox), to(s3, "no-such-bucket", transferType=kind)),
                session=session,
            )
    report = failed.value.report.destinations[0]
    assert len(report.failures) == 100
    assert {failure.kind for failure in report.failures} == {"BucketNotFoundError"}
    assert gateway.count("/no-such-bucket/") <= 4


async def test_no_permission_names_the_permission(proxied: Proxied) -> None:
    gateway, s3 = proxied
    inbox, out = await one_object(s3)
    gateway.rule("^COPY", status=403, code="AccessDenied")
    report = await failures(
        transfer(source(s3, inbox, postCopyAction={"action": "delete"}), to(s3, out))
    )
    (failure,) = report.destinations[0].failures
    assert failure.kind == "AccessDeniedError"
    assert "s3:PutObject" in failure.error
    assert await s3.keys(inbox) == ["src/a"]
    gateway.rule("list-type=2", status=403, code="AccessDenied")
    with pytest.raises(aiohaul.AccessDeniedError, match="s3:ListBucket") as raised:
        await run(transfer(source(s3, inbox), to(s3, out)))
    assert raised.value.operation == "ListObjectsV2"
    assert raised.value.status == 403
    assert not raised.value.retryable


async def test_refused_credentials(proxied: Proxied) -> None:
    gateway, s3 = proxied
    inbox, out = await one_object(s3)
    gateway.rule("list-type=2", status=403, code="InvalidAccessKeyId")
    with pytest.raises(aiohaul.CredentialsError, match="Check the keys"):
        await run(transfer(source(s3, inbox), to(s3, out)))


async def test_throttling_that_does_not_pass(proxied: Proxied) -> None:
    gateway, s3 = proxied
    inbox = await s3.bucket()
    gateway.rule("list-type=2", status=503, code="SlowDown")
    with pytest.raises(aiohaul.ThrottledError) as raised:
        await run({"type": "transfer", "source": source(s3, inbox)})
    assert raised.value.attempts == 5
    assert raised.value.retryable


async def test_unreachable_endpoint() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    s3 = Store(None, url, "nobody")
    with pytest.raises(aiohaul.EndpointError, match=f"{url}.*Check endpoint_url") as raised:
        await run({"type": "transfer", "source": source(s3, "bucket")})
    assert raised.value.retryable
    assert raised.value.status is None


async def test_no_credentials_at_all(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_url)
    definition = {
        "type": "execution",
        "bucket": "b",
        "key": "k",
        "protocol": {"name": "opentaskpy.addons.aws.remotehandlers.s3.S3Execution"},
    }
    with pytest.raises(aiohaul.SettingsError, match="credentials"):
        await aiohaul.run(definition)


async def test_endpoint_that_is_no_url() -> None:
    s3 = Store(None, "http://not a host", "nobody")
    with pytest.raises(aiohaul.DefinitionError, match="endpoint_url: the value is not an http"):
        await run({"type": "transfer", "source": source(s3, "bucket")})


async def test_watch_outlives_a_listing_that_fails(proxied: Proxied) -> None:
    gateway, s3 = proxied
    inbox, _ = await one_object(s3)
    gateway.rule("list-type=2", status=503, code="SlowDown", times=5)  # all attempts of one look
    watch = {"timeout": 60, "sleepTime": 0.1}
    events: list[aiohaul.Event] = []
    report = await run(
        {"type": "transfer", "source": source(s3, inbox, fileWatch=watch)},
        on_progress=events.append,
    )
    assert report.found == 1
    (looked,) = [event for event in events if isinstance(event, aiohaul.WatchPolled)]
    assert isinstance(looked.failure, aiohaul.ThrottledError)


async def test_watch_ends_at_once_where_it_may_not_look(proxied: Proxied) -> None:
    gateway, s3 = proxied
    inbox, _ = await one_object(s3)
    gateway.rule("list-type=2", status=403, code="AccessDenied")
    with pytest.raises(aiohaul.AccessDeniedError):
        await run({"type": "transfer", "source": source(s3, inbox, fileWatch={"timeout": 3600})})
    assert gateway.count("list-type=2") == 1


@pytest.mark.parametrize("kind", ["push", "proxy"])
async def test_source_overwritten_before_its_copy_is_neither_copied_as_new_nor_deleted(
    proxied: Proxied, kind: str
) -> None:
    gateway, s3 = proxied
    inbox, out = await one_object(s3, b"old")
    held = gateway.rule("^COPY|GET .*/src/a", hold=True, times=1)
    definition = transfer(
        source(s3, inbox, postCopyAction={"action": "delete"}), to(s3, out, transferType=kind)
    )
    task = asyncio.ensure_future(failures(definition))
    await held.reached.wait()
    await s3.put(inbox, "src/a", b"new")
    held.go.set()
    report = await task
    (failure,) = report.destinations[0].failures
    assert failure.kind in {"VerificationError", "PreconditionFailedError"}
    assert await s3.contents(inbox) == {"src/a": b"new"}


@pytest.mark.parametrize(
    "action", [{"action": "delete"}, {"action": "move", "destination": "old/"}]
)
async def test_source_overwritten_after_its_copy_stays(
    proxied: Proxied, action: dict[str, str]
) -> None:
    gateway, s3 = proxied
    inbox, out = await one_object(s3, b"old")
    await s3.put(inbox, "src/b", b"b")
    # The flag is the last write before the action: held, it gives time to overwrite.
    flag = gateway.rule(f"PUT /{out}/f", hold=True)
    definition = transfer(
        source(s3, inbox, postCopyAction=action), to(s3, out, flags={"fullPath": "f"})
    )
    task = asyncio.ensure_future(failures(definition))
    await flag.reached.wait()
    await s3.put(inbox, "src/a", b"new")
    flag.go.set()
    report = await task
    assert report.action is not None
    assert [failure.source for failure in report.action.failures] == [f"s3://{inbox}/src/a"]
    left = await s3.contents(inbox)
    assert left["src/a"] == b"new"
    assert "src/b" not in left
    assert (await s3.contents(out))["a"] == b"old"


async def test_copy_that_is_not_what_was_sent_is_no_copy(proxied: Proxied) -> None:
    gateway, s3 = proxied
    inbox, out = await one_object(s3)
    body = b"<CopyObjectResult><ETag>&quot;%s&quot;</ETag></CopyObjectResult>" % (b"0" * 32)
    gateway.rule("^COPY", body=body)
    gateway.rule(f"HEAD /{out}/a", status=404, code="NoSuchKey")
    report = await failures(
        transfer(source(s3, inbox, postCopyAction={"action": "delete"}), to(s3, out))
    )
    assert report.destinations[0].objects == 0
    assert await s3.keys(inbox) == ["src/a"]


async def test_one_slow_destination_of_the_tee_fails_and_the_others_have_it(
    proxied: Proxied, tmp_path: Path
) -> None:
    gateway, s3 = proxied
    data = b"x" * (17 * MIB)
    inbox, good = await one_object(s3, data)
    bad = await s3.bucket()
    gateway.rule(f"PUT /{bad}/a.*partNumber=2", status=403, code="AccessDenied")
    report = await failures(
        transfer(
            source(s3, inbox),
            to(s3, good, transferType="proxy"),
            to(s3, bad, transferType="proxy"),
            local(tmp_path),
        )
    )
    assert [each.objects for each in report.destinations] == [1, 0, 1]
    assert await s3.get(good, "a") == data
    assert (tmp_path / "a").read_bytes() == data
    assert await s3.keys(bad) == []
    assert await s3.uploads(bad) == []


async def test_source_is_read_once_for_all_destinations(proxied: Proxied, tmp_path: Path) -> None:
    gateway, s3 = proxied
    inbox, out = await one_object(s3)
    await run(
        transfer(
            source(s3, inbox),
            *(to(s3, out, directory=str(n), transferType="proxy") for n in range(3)),
            local(tmp_path),
        )
    )
    assert gateway.count("GET .*/src/a$") == 1


async def test_no_request_for_each_listed_key(proxied: Proxied) -> None:
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {f"src/{n}": b"1" for n in range(30)})
    gateway.log.clear()
    await run(transfer(source(s3, inbox), to(s3, out)))
    assert gateway.count("") == 31
    assert gateway.count("^COPY") == 30
    assert gateway.count(r"list-type=2.*delimiter=%2F") == 1


async def test_requests_in_flight_are_bounded(proxied: Proxied) -> None:
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {f"src/{n}": b"" for n in range(60)})
    gateway.peak = 0
    async with aiohaul.Session(max_requests=7) as session:
        await run(transfer(source(s3, inbox), to(s3, out)), session=session)
    assert 1 < gateway.peak <= 7


async def test_every_write_carries_the_acl_unless_disabled(
    proxied: Proxied, tmp_path: Path
) -> None:
    gateway, s3 = proxied
    inbox, out = await one_object(s3)
    (tmp_path / "large").write_bytes(b"x" * (9 * MIB))
    writes: list[str | None] = []

    def note(request: web.Request) -> None:
        writing = request.method == "PUT" and "partNumber" not in request.query
        if writing or "uploads" in request.query:
            writes.append(request.headers.get("x-amz-acl"))

    gateway.noting = note
    move = {"action": "move", "destination": "old/"}
    await run(transfer(local(tmp_path, fileRegex=".*"), to(s3, out, flags={"fullPath": "f"})))
    await run(
        transfer(
            source(s3, inbox, postCopyAction=move),
            to(s3, out),
            to(s3, out, directory="p", transferType="proxy"),
        )
    )
    touch = {"type": "execution", "bucket": out, "key": "k", "protocol": s3.protocol()}
    await aiohaul.run(touch)
    assert writes == ["bucket-owner-full-control"] * 6
    writes.clear()
    for off in ({"disableBucketOwnerControlACL": True}, {"bucket_owner_full_control": False}):
        await aiohaul.run({**touch, "protocol": s3.protocol(**off)})
    assert writes == [None, None]


BAD_LISTINGS = [
    b"<html><body>hello</body></html>",
    b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
    (
        b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key></Contents>"
        b"</ListBucketResult>"
    ),
    (
        b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>x</Size>"
        b"<ETag>e</ETag><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
        b"</ListBucketResult>"
    ),
    (
        b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t"
        b"</NextContinuationToken></ListBucketResult>"
    ),
    b"not xml at all",
    b"",
]


@pytest.mark.parametrize("body", BAD_LISTINGS)
async def test_listing_that_is_none_is_an_error_and_never_nothing_found(
    proxied: Proxied, body: bytes
) -> None:
    gateway, s3 = proxied
    inbox, out = await one_object(s3)
    gateway.rule("list-type=2", body=body)
    with pytest.raises(aiohaul.ServiceError):  # botocore makes a 500 of some of them
        await run(transfer(source(s3, inbox, error=False), to(s3, out)))
    assert await s3.keys(out) == []


@pytest.mark.parametrize("body", [b"", b"<html/>", b"<CopyObjectResult></CopyObjectResult>"])
async def test_copy_answer_that_is_none_is_settled_by_a_head(proxied: Proxied, body: bytes) -> None:
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {"src/a": b"1", "src/b": b"2"})
    gateway.rule(f"^COPY /{out}/a", body=body)
    report = await run(
        transfer(source(s3, inbox, postCopyAction={"action": "delete"}), to(s3, out))
    )
    assert report.destinations[0].objects == 2
    assert await s3.keys(out) == ["a", "b"]
    assert gateway.count(f"^HEAD /{out}/a") == 1  # of that object alone
    assert await s3.keys(inbox) == []


async def test_burst_of_throttling_does_not_use_up_anybodys_retries(proxied: Proxied) -> None:
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {f"src/{n}": b"" for n in range(200)})
    gateway.rule("^COPY", status=503, code="SlowDown", times=150)
    report = await run(transfer(source(s3, inbox), to(s3, out)))
    assert report.destinations[0].objects == 200


async def test_reads_are_tried_as_often_as_other_requests(proxied: Proxied, tmp_path: Path) -> None:
    gateway, s3 = proxied
    inbox, _ = await one_object(s3)
    gateway.rule("GET .*/src/a", drop=True)
    report = await failures(transfer(source(s3, inbox), local(tmp_path)))
    assert report.destinations[0].failures[0].kind == "EndpointError"
    # Five times, and after a pause once more so; and once for a connection that was dead.
    assert gateway.count("GET .*/src/a") in (2 * 5, 2 * 5 + 1)


async def test_key_that_fails_to_be_deleted_for_a_passing_reason_is_tried_again(
    proxied: Proxied,
) -> None:
    gateway, s3 = proxied
    inbox, out = await one_object(s3)
    body = (
        b"<DeleteResult><Error><Key>src/a</Key><Code>InternalError</Code>"
        b"<Message>try again</Message></Error></DeleteResult>"
    )
    gateway.rule(r"\?delete", body=body, times=1)
    await run(transfer(source(s3, inbox, postCopyAction={"action": "delete"}), to(s3, out)))
    assert await s3.keys(inbox) == []
    assert gateway.count(r"\?delete") == 2


async def test_key_that_xml_cannot_carry_is_deleted_too(moto_s3: Store) -> None:
    s3 = moto_s3
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {"src/a\x01": b"1", "src/b": b"2"})
    await run(transfer(source(s3, inbox, postCopyAction={"action": "delete"}), to(s3, out)))
    assert await s3.keys(inbox) == []
    assert len(await s3.keys(out)) == 2


async def test_nobody_knows_what_is_there_is_not_nothing_found(proxied: Proxied) -> None:
    gateway, s3 = proxied
    inbox, out = await one_object(s3)
    gateway.rule("list-type=2", status=503, code="SlowDown")
    watch = {"timeout": 0.1, "sleepTime": 0.1}
    with pytest.raises(aiohaul.ThrottledError):
        await run(transfer(source(s3, inbox, fileWatch=watch, error=False), to(s3, out)))


async def test_source_by_another_name_of_its_server_is_not_deleted(moto_s3: Store) -> None:
    s3 = moto_s3
    inbox, _ = await one_object(s3)
    elsewhere = s3.protocol(endpoint_url=s3.url.replace("127.0.0.1", "localhost"))
    definition = transfer(
        source(s3, inbox, postCopyAction={"action": "delete"}),
        to(s3, inbox, directory="src", protocol=elsewhere),
    )
    with pytest.raises(aiohaul.CollisionError):
        await run(definition)
    assert await s3.keys(inbox) == ["src/a"]


async def test_moves_that_meet_are_refused_by_the_handler_too(moto_s3: Store) -> None:
    s3 = moto_s3
    inbox = await s3.bucket()
    await s3.fill(inbox, {"x/a": b"1", "y/a": b"2"})
    settings = aiohaul.Settings.from_protocol(s3.protocol())
    async with aiohaul.Session() as session:
        handler = session.s3(settings)
        found = await handler.find(inbox)
        with pytest.raises(aiohaul.CollisionError):
            await handler.act(found, aiohaul.Action(kind="move", prefix="done/"))
    assert await s3.keys(inbox) == ["x/a", "y/a"]


async def test_deleting_lists_no_more_than_it_must(proxied: Proxied) -> None:
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {"src/below/a1": b"", "src/below/a2": b"", "other": b""})
    definition = transfer(
        source(s3, inbox, directory="", fileRegex="a", postCopyAction={"action": "delete"}),
        to(s3, out),
    )
    await run(definition)
    assert gateway.count("list-type=2.*prefix=src%2Fbelow%2Fa") == 1


async def test_no_secret_in_any_log(proxied: Proxied, caplog: pytest.LogCaptureFixture) -> None:
    _, s3 = proxied
    inbox, out = await one_object(s3)
    protocol = s3.protocol(
        assume_role_arn="arn:aws:iam::012345678900:role/night",
        assume_role_external_id="s3cr3t-id",
        secret_access_key="s3cr3t-key",
        session_token="s3cr3t-token",
    )
    with caplog.at_level(0):
        await run(transfer(source(s3, inbox, protocol=protocol), to(s3, out, protocol=protocol)))
    assert "s3cr3t" not in caplog.text
    assert "SecretAccessKey" not in caplog.text
    assert "x-amz-security-token" not in caplog.text.lower()
