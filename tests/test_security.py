"""What must not happen whatever a name, an endpoint or a server says."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import aiohaul
from aiohaul.aws.plain import check_tls, is_loopback
from aiohaul.s3.copying.actions import act_on_files
from aiohaul.s3.copying.plan import Action, Rename
from aiohaul.s3.local import list_files
from aiohaul.s3.local_writing import PartialFile
from aiohaul.s3.private import write_private
from gateway import Gateway
from servers import KEY, REGION, SECRET
from store import Store
from test_transfer import local, run, source, to, transfer

ROLE = "arn:aws:iam::012345678900:role/night"

# Names


@pytest.mark.parametrize("name", ["../x", "../../x", "/etc/x", "a/b", "a/../../x", "..", ".", ""])
async def test_no_rename_leads_out_of_a_local_destination(
    s3: Store, tmp_path: Path, name: str
) -> None:
    inbox = await s3.bucket()
    await s3.put(inbox, "src/a", b"x")
    target = tmp_path / "in" / "here"
    target.mkdir(parents=True)
    out = local(target, rename={"pattern": "^.*$", "sub": name})
    out["rename"]["pattern"] = "^a$"
    with pytest.raises(aiohaul.PlanError, match="no name that a file"):
        await run(transfer(source(s3, inbox), out))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["..", ".", "a\0b"])
async def test_no_key_leads_out_of_a_local_destination(tmp_path: Path, name: str) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        yield b"x"

    async with aiohaul.Session(region=REGION) as session:
        out = aiohaul.LocalDestination(directory=tmp_path / "in")
        with pytest.raises(aiohaul.PlanError):
            await session.s3().copy([aiohaul.Stream(name, nothing())], [out])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folds", [True, False])
async def test_names_that_differ_in_case_alone(
    moto_s3: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folds: bool
) -> None:
    if folds:  # as such a file system does it
        look = Path.stat

        def fold(path: Path, **options: Any) -> os.stat_result:
            same = [each for each in os.listdir(path.parent) if each.lower() == path.name.lower()]  # noqa: PTH208
            return look(path.with_name(same[0]) if same else path, **options)

        monkeypatch.setattr(Path, "stat", fold)
    inbox, out, folder = await moto_s3.bucket(), await moto_s3.bucket(), tmp_path / "in"
    folder.mkdir()
    await moto_s3.fill(inbox, {"src/Day.csv": b"1", "src/day.csv": b"2", "src/other": b"3"})
    definition = transfer(source(moto_s3, inbox), local(folder), to(moto_s3, out))
    if folds:
        with pytest.raises(aiohaul.TransferError, match="tells no upper from lower case") as told:
            await run(definition)
        assert [each.objects for each in told.value.report.destinations] == [0, 3]
        assert list(folder.iterdir()) == []
    else:
        await run(definition)
        assert {each.name: each.read_bytes() for each in folder.iterdir()} == {
            "Day.csv": b"1",
            "day.csv": b"2",
            "other": b"3",
        }


async def test_keys_with_dots_are_sent_as_they_are(proxied: tuple[Gateway, Store]) -> None:
    """Else another object would be written, or deleted."""
    gateway, s3 = proxied
    bucket = await s3.bucket()
    for direct in (True, False):
        async with session(s3.url, direct=direct) as made:
            for _ in range(3):
                await made.s3().touch(bucket, "a/../b/./c//d")
    paths = {line.split(" ")[1] for line in gateway.log}
    assert paths == {f"/{bucket}/a/../b/./c//d"}


async def test_links_in_a_local_destination_are_replaced_and_not_followed(
    s3: Store, tmp_path: Path
) -> None:
    inbox = await s3.bucket()
    await s3.put(inbox, "src/a", b"new")
    outside, target = tmp_path / "outside", tmp_path / "in"
    outside.write_bytes(b"old")
    target.mkdir()
    (target / "a").symlink_to(outside)
    (target / "flag").symlink_to(outside)
    await run(transfer(source(s3, inbox), local(target, flags={"fullPath": str(target / "flag")})))
    assert outside.read_bytes() == b"old"
    assert not (target / "a").is_symlink()
    assert (target / "a").read_bytes() == b"new"
    assert (target / "flag").read_bytes() == b""


@pytest.mark.parametrize("sub", ["../x", "../../x", "link/x", "..", "link/../../x"])
async def test_no_rename_of_a_local_source_leads_out(tmp_path: Path, sub: str) -> None:
    inside, outside = tmp_path / "in", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "a").write_bytes(b"x")
    (inside / "link").symlink_to(outside)
    files = await list_files(str(inside), re.compile("a"))
    action = Action(kind="rename", prefix=f"{inside}/", rename=Rename(re.compile("a"), sub))
    with pytest.raises(aiohaul.PlanError, match="outside of"):
        await act_on_files(files, action, lambda _: None)
    assert (inside / "a").exists()
    assert list(outside.iterdir()) == []


async def test_rename_of_a_local_source_into_a_directory_below(tmp_path: Path) -> None:
    (tmp_path / "done").mkdir()
    (tmp_path / "a").write_bytes(b"x")
    files = await list_files(str(tmp_path), re.compile("a"))
    action = Action(kind="rename", prefix=f"{tmp_path}/", rename=Rename(re.compile("^"), "done/"))
    report = await act_on_files(files, action, lambda _: None)
    assert report.objects == 1
    assert (tmp_path / "done" / "a").exists()


# What is written beside


async def test_partial_file_is_private_from_its_first_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    really = os.open

    def noting(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        descriptor = really(path, flags, mode, **more)
        if str(path).endswith(".part"):
            modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    file = PartialFile(tmp_path / "a")
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", noting)
        await file.write(b"secret", 0)
    assert modes == [0o600]
    await file.commit(6)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


async def test_journal_is_private(s3: Store, tmp_path: Path) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", b"x")
    modes: set[int] = set()

    def look(_: aiohaul.Event) -> None:
        modes.update(stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir())

    journal = tmp_path / "journal.db"
    await run(transfer(source(s3, inbox), to(s3, out)), journal=journal, on_progress=look)
    assert modes == {0o600}


def test_private_file_replaces_a_link_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"old")
    (tmp_path / "report").symlink_to("other")
    write_private(tmp_path / "report", b"new")
    assert (tmp_path / "other").read_bytes() == b"old"
    assert (tmp_path / "report").read_bytes() == b"new"
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_private(tmp_path / "directory", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory", "other", "report"]


# Endpoints


def session(url: str, **more: Any) -> aiohaul.Session:
    return aiohaul.Session(
        access_key_id=KEY, secret_access_key=SECRET, region=REGION, endpoint_url=url, **more
    )


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("s3.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),  # noqa: S104  # a name to judge
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("minio", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_what_is_this_machine(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize("role", [None, ROLE])
async def test_plain_http_to_another_machine_is_refused(role: str | None) -> None:
    url = "http://minio.invalid:9000"
    async with session(url, role_arn=role) as made:
        for request in (
            made.s3().head("b", "k"),
            made.ssm().get("/a"),
            made.lambda_().invoke("f"),
            made.secrets().get("s"),
        ):
            with pytest.raises(aiohaul.SettingsError, match=r"minio\.invalid.*allow_http"):
                await request


async def test_plain_http_of_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://minio.invalid:9000")
    async with aiohaul.Session(access_key_id=KEY, secret_access_key=SECRET, region=REGION) as made:
        with pytest.raises(aiohaul.SettingsError, match="AIOHAUL_ALLOW_HTTP"):
            await made.s3().head("b", "k")


async def test_plain_http_where_it_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://minio.invalid:9000"
    async with session(url, allow_http=True) as made:
        assert (await made._clients.service("s3")).endpoint == url
    monkeypatch.setenv("AIOHAUL_ALLOW_HTTP", "1")
    async with session(url) as made:
        assert (await made._clients.service("s3")).endpoint == url


async def test_definition_with_plain_http_is_refused_before_any_request(
    proxied: tuple[Gateway, Store],
) -> None:
    gateway, s3 = proxied
    inbox = await s3.bucket()
    await s3.put(inbox, "src/a", b"x")
    plain = to(s3, "b", protocol=s3.protocol(endpoint_url="http://minio.invalid:9000"))
    with pytest.raises(aiohaul.SettingsError, match="https://"):
        await run(transfer(source(s3, inbox, postCopyAction={"action": "delete"}), plain))
    assert gateway.count("^(PUT|COPY|DELETE)") == 0
    assert await s3.keys(inbox) == ["src/a"]


def test_user_and_query_of_an_endpoint_are_not_shown() -> None:
    with pytest.raises(aiohaul.SettingsError) as refused:
        check_tls("http://user:pa55@minio.invalid/?X-Amz-Signature=s1gned")
    assert "pa55" not in str(refused.value)
    assert "s1gned" not in str(refused.value)


class Tls:
    """An S3 endpoint over TLS that takes everything."""

    def __init__(self) -> None:
        self.port = 0
        self.requests = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        await request.read()
        return web.Response(headers={"ETag": '"d41d8cd98f00b204e9800998ecf8427e"'})


@pytest.fixture
async def tls(certificate: Path) -> AsyncIterator[Tls]:
    server = Tls()
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", server.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    server.port = runner.addresses[0][1]
    yield server
    await runner.cleanup()


@pytest.mark.usefixtures("direct_unless_told_otherwise")
@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("how", ["argument", "environment"])
async def test_ca_of_ones_own(
    tls: Tls, certificate: Path, monkeypatch: pytest.MonkeyPatch, how: str, direct: bool
) -> None:
    if how == "environment":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    bundle = certificate if how == "argument" else None
    async with session(f"https://localhost:{tls.port}", direct=direct, ca_bundle=bundle) as made:
        for _ in range(3):
            await made.s3().touch("bucket", "k")
        wire = (await made._clients.service("s3"))._wire
        assert bool(wire._ways) is direct
    assert tls.requests == 3


@pytest.mark.parametrize("direct", [True, False])
async def test_certificate_that_nobody_vouches_for_is_refused(
    tls: Tls, certificate: Path, monkeypatch: pytest.MonkeyPatch, direct: bool
) -> None:
    monkeypatch.setattr("aiohaul.aws.service.ATTEMPTS", 1)
    async with session(f"https://localhost:{tls.port}", direct=direct) as made:
        with pytest.raises(aiohaul.EndpointError, match=r"(?i)certificate"):
            await made.s3().touch("bucket", "k")
    # Vouched for, but for another name.
    async with session(
        f"https://127.0.0.1:{tls.port}", direct=direct, ca_bundle=certificate
    ) as made:
        with pytest.raises(aiohaul.EndpointError, match=r"(?i)certificate"):
            await made.s3().touch("bucket", "k")
    assert tls.requests == 0


def test_ca_bundle_that_cannot_be_read(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for path in (tmp_path / "absent.pem", empty):
        with pytest.raises(aiohaul.SettingsError, match="ca_bundle"):
            aiohaul.Session(ca_bundle=path)


async def test_nothing_stays_beside_after_a_cancelled_copy(
    proxied: tuple[Gateway, Store], tmp_path: Path
) -> None:
    gateway, s3 = proxied
    inbox = await s3.bucket()
    await s3.put(inbox, "src/a", b"x" * (20 * 2**20))
    held = gateway.rule("GET .*/src/a", hold=True)
    task = asyncio.ensure_future(run(transfer(source(s3, inbox), local(tmp_path))))
    await held.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(tmp_path.iterdir()) == []
