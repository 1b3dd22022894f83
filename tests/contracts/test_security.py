"""What must not happen whatever a name, an endpoint or a server says."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import stat
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from aiohttp import web

import aiohaul
from aiohaul.aws.hosts import is_loopback
from aiohaul.aws.tls_policy import check_tls
from aiohaul.s3.copying.actions import apply_to_files
from aiohaul.s3.copying.plan import Action, Rename
from aiohaul.s3.local import list_files
from aiohaul.s3.local_writing import PartialFile
from aiohaul.storage.private_files import write_private
from tests.support.definitions import local, run, source, to, transfer
from tests.support.gateway import Gateway
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store

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
    with pytest.raises(aiohaul.PlanError, match="not a valid file name"):
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


def on_such_a_file_system(monkeypatch: pytest.MonkeyPatch, rule: Callable[[str], str]) -> None:
    """Have a second name of a file lead to that file, as file systems with this rule do."""
    stat, opened = Path.stat, os.open

    def known(path: Path) -> Path:
        names = os.listdir(path.parent) if os.path.isdir(path.parent) else []  # noqa: PTH112, PTH208
        return path.with_name(next((e for e in names if rule(e) == rule(path.name)), path.name))

    def open_known(path: Any, flags: int, *more: Any, **options: Any) -> int:
        return opened(known(Path(path)) if flags & os.O_CREAT else path, flags, *more, **options)

    monkeypatch.setattr(Path, "stat", lambda path, **more: stat(known(path), **more))
    monkeypatch.setattr(os, "open", open_known)


NFC, NFD = "caf\u00e9.csv", "cafe\u0301.csv"


@pytest.mark.parametrize(
    "case",
    [
        (str, ("Day.csv", "day.csv"), False),
        (str, (NFC, NFD), False),
        (str.casefold, ("Day.csv", "day.csv"), True),
        (str.casefold, (NFC, NFD), False),
        (partial(normalize, "NFD"), (NFC, NFD), True),
        (partial(normalize, "NFC"), (NFC, NFD), True),
        (partial(normalize, "NFC"), ("Day.csv", "day.csv"), False),
        (lambda name: normalize("NFD", name).casefold(), (NFC, NFD.upper()), True),
    ],
)
async def test_names_that_some_file_systems_take_for_one(
    moto_s3: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[Callable[[str], str], tuple[str, str], bool],
) -> None:
    rule, names, same = case
    on_such_a_file_system(monkeypatch, rule)
    inbox, out, folder = await moto_s3.bucket(), await moto_s3.bucket(), tmp_path / "in"
    folder.mkdir()
    await moto_s3.fill(inbox, {f"src/{each}": each.encode() for each in (*names, "other")})
    definition = transfer(
        source(moto_s3, inbox, postCopyAction={"action": "delete"}),
        local(folder),
        to(moto_s3, out),
    )
    if same:
        with pytest.raises(aiohaul.TransferError, match="would be one file") as failed:
            await run(definition)
        assert [each.objects for each in failed.value.report.destinations] == [0, 3]
        assert list(folder.iterdir()) == []
        assert len(await moto_s3.keys(inbox)) == 3
    else:
        await run(definition)
        assert {each.name: each.read_bytes() for each in folder.iterdir()} == {
            each: each.encode() for each in (*names, "other")
        }


async def test_flag_and_files_that_would_be_one(
    moto_s3: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_such_a_file_system(monkeypatch, str.casefold)
    inbox = await moto_s3.bucket()
    await moto_s3.put(inbox, "src/done", b"1")
    definition = transfer(
        source(moto_s3, inbox), local(tmp_path, flags={"fullPath": str(tmp_path / "DONE")})
    )
    with pytest.raises(aiohaul.TransferError, match="'DONE' and 'done' would be one file"):
        await run(definition)
    assert list(tmp_path.iterdir()) == []


async def test_local_moves_that_would_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "archive"
    target.mkdir()
    for name in (NFC, NFD):
        (tmp_path / name).write_text(name)
    files = await list_files(str(tmp_path), re.compile("caf"))
    on_such_a_file_system(monkeypatch, partial(normalize, "NFD"))
    with pytest.raises(aiohaul.CollisionError, match="would be one file"):
        await apply_to_files(files, Action(kind="move", prefix=f"{target}/"), lambda _: None)
    assert len(list(tmp_path.iterdir())) == 3
    assert list(target.iterdir()) == []


async def test_name_that_is_too_long_is_refused_before_the_download(
    proxied: tuple[Gateway, Store], tmp_path: Path
) -> None:
    gateway, s3 = proxied
    inbox = await s3.bucket()
    await s3.put(inbox, "src/a", b"1")
    held = gateway.rule("GET .*/src/a")
    for directory in (tmp_path, tmp_path / "new" / "one"):
        out = local(
            directory,
            createDirectoryIfNotExists=True,
            rename={"pattern": "^a$", "sub": "\u00fc" * 200},  # 200 characters, 400 bytes
        )
        with pytest.raises(aiohaul.PlanError, match=r"has 400 bytes, .* allows 255"):
            await run(transfer(source(s3, inbox), out))
    assert not held.reached.is_set()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["4755", "2755", "1777", "0o4644"])
async def test_mode_with_more_than_permissions(moto_s3: Store, tmp_path: Path, mode: str) -> None:
    """Bytes from elsewhere would run with the rights of whoever runs this."""
    for given in ({"mode": mode}, {"permissions": {"mode": mode}}):
        with pytest.raises(aiohaul.DefinitionError, match="mode"):
            await run(transfer(source(moto_s3, "in"), local(tmp_path, **given)))
    with pytest.raises(aiohaul.PlanError, match="set-uid"):
        aiohaul.LocalDestination(directory=tmp_path, mode=int(mode, base=8))


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
        await apply_to_files(files, action, lambda _: None)
    assert (inside / "a").exists()
    assert list(outside.iterdir()) == []


async def test_rename_of_a_local_source_into_a_directory_below(tmp_path: Path) -> None:
    (tmp_path / "done").mkdir()
    (tmp_path / "a").write_bytes(b"x")
    files = await list_files(str(tmp_path), re.compile("a"))
    action = Action(kind="rename", prefix=f"{tmp_path}/", rename=Rename(re.compile("^"), "done/"))
    report = await apply_to_files(files, action, lambda _: None)
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
        s3 = await made._clients.service("s3")
        assert s3.takes_fast_path("put_object", "bucket") is direct
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
