"""What errors advise, by cause; and answers that are not the service's at all."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from aiohaul.aws.advice import html_title
from tests.support.fake_http import FakeServer, Request
from tests.support.servers import KEY, REGION, SECRET

ACL = "disableBucketOwnerControlACL.*bucket_owner_full_control=False"
PAYER = '"requestPayer": "requester".*request_payer="requester".*--request-payer'
CHECKSUM = "AWS_REQUEST_CHECKSUM_CALCULATION=when_required"
ARN = "arn:aws:sts::1:assumed-role/r/s"


@dataclass(eq=False)
class Refusing(FakeServer):
    """Answers every request with one error."""

    status: int = 400
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    async def serve(self, request: Request) -> None:
        body = b"" if request.method == "HEAD" else self.body
        await request.connection.answer(self.status, body, self.headers)


def session(server: Refusing, *, direct: bool) -> aiohaul.Session:
    return aiohaul.Session(
        region=REGION,
        endpoint_url=server.url,
        access_key_id=KEY,
        secret_access_key=SECRET,
        direct=direct,
    )


async def refused(
    server: Refusing, *, direct: bool, kind: type[aiohaul.ServiceError] = aiohaul.ServiceError
) -> aiohaul.ServiceError:
    async with server, session(server, direct=direct) as made:
        s3 = await made._clients.service("s3")
        for _ in range(2):
            with pytest.raises(kind) as raised:
                await s3.attempt("create_multipart_upload", "it", Bucket="bucket", Key="k")
    return raised.value


def error_body(code: str, message: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize(
    ("status", "code", "message", "advice"),
    [
        # AWS with ACLs disabled, R2, B2
        (400, "AccessControlListNotSupported", "The bucket does not allow ACLs", ACL),
        (501, "NotImplemented", "Header 'x-amz-acl' with value 'x' not implemented", ACL),
        (400, "InvalidArgument", "Unsupported value for canned acl 'x'", ACL),
        # checksums
        (501, "NotImplemented", "STREAMING-UNSIGNED-PAYLOAD-TRAILER not implemented", CHECKSUM),
        (400, "InvalidRequest", "Unsupported header 'x-amz-sdk-checksum-algorithm'", CHECKSUM),
        (400, "InvalidArgument", "checksum algorithm not supported: CRC64NVME", CHECKSUM),
        (403, "InvalidObjectState", "The operation is not valid", "Restore the object"),
        (403, "AccessDenied", "This is a Requester Pays bucket", PAYER),
        (
            403,
            "AccessDenied",
            f"User: {ARN} is not authorized to perform: kms:Decrypt on resource: k because no one",
            "not authorized to perform: kms:Decrypt on resource: k b.*Allow kms:Decrypt to these",
        ),
        (
            403,
            "AccessDenied",
            f"User: {ARN} is not authorized to perform: s3:PutObjectAcl with an explicit deny",
            "Remove the explicit deny of s3:PutObjectAcl",
        ),
        (403, "AccessDenied", "Access Denied", "Allow s3:PutObject and s3:PutObjectAcl"),
        (400, "KMS.DisabledException", "k is disabled.", "Enable the KMS key"),
        (501, "NotImplemented", "no", "does not support this operation"),
        (
            400,
            "InvalidRequest",
            "The upload was created using a sha1 checksum. The complete request must include it",
            "must include it.$",
        ),
    ],
)
async def test_error_advises_by_its_cause(
    status: int, code: str, message: str, advice: str, direct: bool
) -> None:
    server = Refusing(status=status, body=error_body(code, message))
    error = await refused(server, direct=direct)
    assert error.code == code
    with pytest.raises(aiohaul.ServiceError, match=advice):
        raise error


NGINX = b"<html>\r\n<head><title>%b</title></head>\r\n<body><h1>no</h1></body></html>"


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize(
    ("status", "title", "server", "says"),
    [
        (403, b"403 Forbidden", "cloudflare", "'cloudflare', titled \"403 Forbidden\".*WAF"),
        (404, b"404 Not Found", "nginx/1.25", "'nginx/1.25', titled.*endpoint_url"),
        (404, b"404 Not Found", "", "does not say from whom"),
        (407, b"", "squid", "'squid'.*HTTPS_PROXY"),
        (413, b"Request Entity Too Large", "nginx", "client_max_body_size"),
        (400, b"\x1b[31m\nred  \xff", "nginx", 'titled "\\[31m red'),
        (502, b"502 Bad Gateway", "awselb/2.0", "'awselb/2.0'"),
    ],
)
async def test_page_of_a_proxy_is_not_taken_for_the_answer_of_the_service(
    status: int, title: bytes, server: str, says: str, direct: bool
) -> None:
    headers = {"server": server} if server else {}
    fake = Refusing(status=status, body=b"\n<!DOCTYPE html>" + NGINX % title, headers=headers)
    error = await refused(fake, direct=direct)
    with pytest.raises(aiohaul.ServiceError, match=f"not the service's: .*{says}"):
        raise error
    assert type(error) is aiohaul.ServiceError  # neither the object nor a permission is missing
    assert error.retryable is (status == 502)
    assert error.status == status


@pytest.mark.parametrize("direct", [True, False])
async def test_page_that_says_to_wait_is_throttling(direct: bool) -> None:
    fake = Refusing(status=503, body=NGINX % b"busy", headers={"server": "haproxy"})
    error = await refused(fake, direct=direct, kind=aiohaul.ThrottledError)
    assert "'haproxy'" in str(error)


async def test_proxy_that_asks_for_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before TLS, in answer to CONNECT."""
    async with Refusing(status=407) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with aiohaul.Session(
            region=REGION, access_key_id=KEY, secret_access_key=SECRET
        ) as made:
            s3 = await made._clients.service("s3")
            with pytest.raises(aiohaul.ServiceError, match=r"password.*HTTPS_PROXY") as raised:
                await s3.call("list_objects_v2", "it", Bucket="bucket")
    assert raised.value.attempts == 1


@pytest.mark.parametrize(
    "body", [b"", b"<Error/>", b"<?xml version='1.0'?><Error/>", b"{}", b"x<html>", b"<htmlish>"]
)
def test_other_bodies_are_no_pages(body: bytes) -> None:
    assert html_title(body) is None


@pytest.mark.parametrize("cached", [True, False])
async def test_expired_sso_session_says_how_to_sign_in(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    cached: bool,
) -> None:
    home = tmp_path / "home"
    cache = home / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    config = home / ".aws" / "config"
    config.write_text(
        "[profile night]\nsso_session = s\nsso_account_id = 012345678900\nsso_role_name = r\n"
        "region = eu-west-1\n[sso-session s]\nsso_region = eu-west-1\n"
        "sso_start_url = https://example.invalid/start\n"
    )
    if cached:
        name = "a0f1490a20d0211c997b44bc357e1972deab8ae3"  # SHA-1 of "s"
        token = {
            "startUrl": "https://example.invalid/start",
            "region": "eu-west-1",
            "accessToken": "t",
            "expiresAt": "2020-01-01T00:00:00Z",
        }
        (cache / f"{name}.json").write_text(json.dumps(token))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "night")
    caplog.set_level(logging.DEBUG)
    async with aiohaul.Session() as made:
        with pytest.raises(aiohaul.SettingsError, match="aws sso login"):
            await made.s3().head("bucket", "k")
    shown = [each for each in caplog.records if each.name.startswith(("botocore", "aiobotocore"))]
    assert shown
    assert not [each for each in shown if each.exc_info]


async def test_metadata_service_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(FakeServer):
        async def serve(self, request: Request) -> None:
            del request
            await asyncio.Event().wait()

    async with Silent() as server:
        for name, value in {
            "AWS_EC2_METADATA_DISABLED": "false",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": server.url,
            "AWS_METADATA_SERVICE_TIMEOUT": "1",
        }.items():
            monkeypatch.setenv(name, value)
        async with aiohaul.Session(region=REGION) as made:
            with pytest.raises(aiohaul.SettingsError, match="AWS_METADATA_SERVICE_TIMEOUT"):
                await made.s3().head("bucket", "k")
    assert server.accepted


async def test_container_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Refusing(status=500) as server:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}/role")
        calls: list[Any] = []
        async with aiohaul.Session(region=REGION) as made:
            with pytest.raises(aiohaul.SettingsError, match="metadata service") as raised:
                calls.append(await made.s3().head("bucket", "k"))
    assert not calls
    assert "role is attached" in str(raised.value)


async def test_body_of_a_credentials_agent_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = b'{"SecretAccessKey": "K3PTS3CRET"}\nK3PTS3CRET'
    async with Refusing(status=500, body=body) as server:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}/role")
        async with aiohaul.Session(region=REGION) as made:
            with pytest.raises(aiohaul.SettingsError, match="non 200 response 500") as raised:
                await made.s3().head("bucket", "k")
    shown = "".join(traceback.format_exception(raised.value))
    assert "K3PTS3CRET" not in shown
    assert b"K3PTS3CRET" not in pickle.dumps(raised.value)
