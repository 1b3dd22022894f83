"""`aiohaul doctor` as a user meets it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest

from aiohaul.cli.doctor import finding_text
from aiohaul.doctor.finding import Finding
from tests.support.commands import aiohaul, ended, start, written
from tests.support.definitions import source, to, transfer
from tests.support.gateway import Gateway, gateway
from tests.support.store import Store

Proxied = tuple[Gateway, Store]


async def test_findings_as_lines(moto_s3: Store, at: Any) -> None:
    at(moto_s3.url)
    bucket = await moto_s3.bucket()
    done = await aiohaul("doctor", f"s3://{bucket}/in/")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == f"s3://{bucket}/in"
    assert any(re.match(r"ok +region +eu-west-1, as the bucket$", line) for line in lines)
    assert any(re.match(r"limited +If-None-Match: copies +is ignored$", line) for line in lines)
    assert any(re.match(r" +→ Have each key written by one client", line) for line in lines)
    assert re.fullmatch(rf"{moto_s3.url}: \d+ ok, 4 limited, in \d+\.\d s", lines[-1])
    assert await moto_s3.keys(bucket) == []


async def test_findings_as_json(moto_s3: Store) -> None:
    bucket = await moto_s3.bucket()
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "thing"}
    where = ("--endpoint-url", moto_s3.url, "--region", "eu-west-1")
    process = await start("doctor", f"s3://{bucket}", *where, "--json", env=environment)
    done = await ended(process)
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    assert told["ok"] is True
    assert told["target"] == f"s3://{bucket}/"
    by_name = {each["probe"]: each for each in told["findings"]}
    assert by_name["If-None-Match: put"]["values"] == {"enforced": True}
    assert by_name["region"]["values"] == {"ours": "eu-west-1", "bucket": "eu-west-1"}


@pytest.mark.parametrize("how", ["option", "environment"])
async def test_over_tls_with_a_ca_of_ones_own(moto_s3: Store, certificate: Path, how: str) -> None:
    bucket = await moto_s3.bucket()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    untrusted = {**os.environ, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "thing"}
    trusted = dict(untrusted)
    option = ["--ca-bundle", str(certificate)] if how == "option" else []
    if how == "environment":
        trusted["AWS_CA_BUNDLE"] = str(certificate)
    async with gateway(moto_s3.url, tls=context) as way:
        where = ("--endpoint-url", way.url, "--region", "eu-west-1", "--json")
        done = await ended(await start("doctor", f"s3://{bucket}", *where, *option, env=trusted))
        refused = await ended(await start("doctor", f"s3://{bucket}", *where, env=untrusted))
    assert (done.code, done.err) == (0, "")
    by_name = {each["probe"]: each for each in json.loads(done.out)["findings"]}
    assert by_name["TLS"]["found"] == "requests are encrypted, and certificates verified"
    assert by_name["round trip"]["status"] == "ok"
    assert await moto_s3.keys(bucket) == []
    assert refused.code == 1
    failed = [each for each in json.loads(refused.out)["findings"] if each["status"] == "failed"]
    assert failed
    assert "AWS_CA_BUNDLE" in json.dumps(failed)


async def test_role_is_assumed(moto_s3: Store, at: Any) -> None:
    at(moto_s3.url)
    role = "arn:aws:iam::123456789012:role/night"
    done = await aiohaul("doctor", f"s3://{await moto_s3.bucket()}", "--role", role, "--json")
    assert done.code == 0
    (found,) = [each for each in json.loads(done.out)["findings"] if each["probe"] == "credentials"]
    assert "assumed-role/night/aiohaul-" in found["values"]["arn"]


@pytest.mark.parametrize("role", ["source", "destination"])
async def test_definition_says_what_is_needed(proxied: Proxied, tmp_path: Path, role: str) -> None:
    way, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    way.rule("^(PUT|COPY|DELETE|POST /.)", status=403, code="AccessDenied")
    file = written(tmp_path, transfer(source(s3, inbox), to(s3, out)))
    bucket = inbox if role == "source" else out
    done = await aiohaul("doctor", f"s3://{bucket}", "--definition", file)
    assert done.code == (0 if role == "source" else 1)
    line = next(each for each in done.out.splitlines() if re.match(r"\w+ +s3:PutObject ", each))
    assert line.startswith("ok" if role == "source" else "failed")


async def test_definition_of_other_buckets(moto_s3: Store, tmp_path: Path, at: Any) -> None:
    at(moto_s3.url)
    file = written(tmp_path, transfer(source(moto_s3, "inbox"), to(moto_s3, "out")))
    done = await aiohaul("doctor", "s3://third", "--definition", file)
    assert done.code == 2
    assert "does not use the bucket s3://third/" in done.err


@pytest.mark.parametrize("form", [(), ("--json",)])
async def test_what_is_left_is_an_error(proxied: Proxied, at: Any, form: tuple[str, ...]) -> None:
    way, s3 = proxied
    at(way.url)
    bucket = await s3.bucket()
    way.rule("^(DELETE|POST .*delete)", status=403, code="AccessDenied")
    done = await aiohaul("doctor", f"s3://{bucket}", *form)
    assert done.code == 1
    shown = "".join((done.err if form else done.out).split())
    for key in await s3.keys(bucket):
        assert f"s3://{bucket}/{key}".replace(" ", "") in shown


async def test_bucket_that_is_not_there(moto_s3: Store, at: Any) -> None:
    at(moto_s3.url)
    done = await aiohaul("doctor", "s3://b-that-is-not-there")
    assert done.code == 1
    assert "Create the bucket or correct its name" in " ".join(done.out.split())


@pytest.mark.parametrize("what", [signal.SIGINT, signal.SIGTERM])
async def test_interrupted_it_cleans_up(proxied: Proxied, at: Any, what: signal.Signals) -> None:
    way, s3 = proxied
    at(way.url)
    bucket = await s3.bucket()
    late = way.rule("PUT .*large", late=True)
    process = await start("doctor", f"s3://{bucket}")
    async with asyncio.timeout(60):
        await late.reached.wait()
    assert await s3.keys(bucket) != []
    process.send_signal(what)
    asyncio.get_running_loop().call_later(0.2, late.go.set)
    done = await ended(process)
    assert done.code == 128 + what
    assert done.err == "aiohaul: cancelled\n"
    assert re.search(r"ok +cleanup +all that was written below", done.out)
    assert await s3.keys(bucket) == []
    assert await s3.uploads(bucket) == []


async def test_terminal_shows_what_is_tried_now(moto_s3: Store, at: Any) -> None:
    at(moto_s3.url)
    bucket = await moto_s3.bucket()
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aiohaul", "doctor", f"s3://{bucket}"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = await asyncio.to_thread(_read_all, ours)
    assert await process.wait() == 0
    assert "running probe 1 of 26: bucket" in shown
    assert "\r\x1b[2K\x1b[32mok      \x1b[0mbucket" in shown
    assert "\x1b[33mlimited \x1b[0mchecksums" in shown


def _read_all(terminal: int) -> str:
    shown = b""
    try:
        while data := os.read(terminal, 2**16):
            shown += data
    except OSError:  # the other end is closed
        pass
    os.close(terminal)
    return shown.decode()


def test_line_is_wrapped_below_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    text = finding_text(Finding("tags", "limited", "word " * 20, "it means", "Do it.\x1b[2J"))
    lines = text.splitlines()
    assert lines[0].startswith("limited tags  ")
    assert max(map(len, lines)) < 90
    assert all(line.startswith(" " * 41) for line in lines[1:])
    assert lines[-1].strip() == r"→ Do it.\x1b[2J"
