"""Any number of identities and buckets in one Session, and what is short for a while."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import re
import resource
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from aiohaul.aws import clients, fast_path
from aiohaul.aws.direct import plain
from tests.support.compute_fixtures import KEYS, REGION
from tests.support.kept_server import KeptServer
from tests.support.servers import KEY, SECRET
from tests.support.store import Store

FOUND = b'HTTP/1.1 200 OK\r\ncontent-length: 7\r\netag: "x"\r\nlast-modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\r\n'  # noqa: E501  # one line as it is sent


@pytest.fixture
def server() -> Iterator[KeptServer]:
    with KeptServer(lambda _: FOUND) as made:
        yield made


def identity(number: int) -> aiohaul.Settings:
    return aiohaul.Settings(**KEYS, session_token=f"token-{number}")


async def test_identities_share_connections_and_those_used_long_ago_are_let_go(
    server: KeptServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_CACHED_SERVICES", 3)
    async with aiohaul.Session(region=REGION, endpoint_url=server.url) as session:
        for _ in range(2):
            for number in range(12):
                assert (await session.s3(identity(number)).head("bucket", "k")).size == 7
        gc.collect()
        assert len(session._clients._services) == 3
        assert len(session._clients._identities) == 3
        assert server.accepted == 1


async def test_identity_that_is_in_use_is_not_let_go(
    server: KeptServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_CACHED_SERVICES", 1)
    async with aiohaul.Session(region=REGION, endpoint_url=server.url) as session:
        used = await session._clients.service("s3", identity(0))
        for number in range(1, 4):
            await session.s3(identity(number)).head("bucket", "k")
            await used.call("head_object", "it", Bucket="bucket", Key="k")
        assert await session._clients.service("s3", identity(0)) is used
        tokens = [head.split(b"X-Amz-Security-Token: ")[-1][:7] for head in server.requests]
        assert tokens.count(b"token-0") == 3


@pytest.mark.usefixtures("direct_unless_told_otherwise")
@pytest.mark.parametrize("by_botocore", [False, True], ids=["plain", "by botocore"])
async def test_routes_to_buckets_are_bounded(
    server: KeptServer, monkeypatch: pytest.MonkeyPatch, by_botocore: bool
) -> None:
    monkeypatch.setattr(plain, "_ROUTES", 4)
    monkeypatch.setattr(fast_path, "_ROUTES", 4)
    if by_botocore:
        monkeypatch.setenv("AWS_SDK_UA_APP_ID", "night")
    async with aiohaul.Session(region=REGION, endpoint_url=server.url, **KEYS) as session:
        for number in (*range(10), 9, 9):
            await session.s3().head(f"bucket-{number}", "k")
        service = await session._clients.service("s3")
        kept = [n for n in range(10) if service.takes_fast_path("head_object", f"bucket-{n}")]
        assert kept == [6, 7, 8, 9]


async def test_credentials_that_come_later_are_found(
    server: KeptServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    async with aiohaul.Session(region=REGION, endpoint_url=server.url) as session:
        with pytest.raises(aiohaul.SettingsError, match="credentials"):
            await session.s3().head("bucket", "k")
        file.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
        assert (await session.s3().head("bucket", "k")).size == 7


# Shortages ----------------------------------------------------------------------------------


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """What is open stays open; nothing else can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiohaul.aws.service.backoff_delay", lambda *_: 0)


Door = Callable[[aiohaul.Session, Store, str, Path], Awaitable[Any]]


async def _head(session: aiohaul.Session, _: Store, bucket: str, __: Path) -> None:
    await session.s3().head(bucket, "k")


async def _download(session: aiohaul.Session, _: Store, bucket: str, folder: Path) -> None:
    s3 = session.s3()
    await s3.copy(
        await s3.find(bucket), [aiohaul.LocalDestination(directory=folder / "copies", create=True)]
    )


async def _journal(session: aiohaul.Session, _: Store, bucket: str, folder: Path) -> None:
    s3 = session.s3()
    found = await s3.find(bucket)
    destination = aiohaul.Destination(bucket=bucket, directory="copies")
    await s3.copy(found, [destination], journal=folder / "journal")


async def _local(_: aiohaul.Session, s3: Store, bucket: str, folder: Path) -> None:
    await aiohaul.run(
        {
            "type": "transfer",
            "source": {
                "directory": str(folder),
                "fileRegex": "file",
                "protocol": {"name": "local"},
            },
            "destination": [{"bucket": bucket, "directory": "d", "protocol": s3.protocol()}],
        }
    )


async def _definition(_: aiohaul.Session, s3: Store, bucket: str, folder: Path) -> None:
    await aiohaul.run(
        {
            "type": "transfer",
            "source": {"bucket": bucket, "fileRegex": "k", "protocol": s3.protocol()},
            "destination": [{"directory": str(folder), "protocol": {"name": "local"}}],
        }
    )


async def _bundle(_: aiohaul.Session, __: Store, ___: str, ____: Path) -> None:
    aiohaul.Session(ca_bundle="/etc/ssl/certs/ca-certificates.crt")


DOORS: dict[str, Door] = {
    "head": _head,
    "download": _download,
    "journal": _journal,
    "local": _local,
    "definition": _definition,
    "bundle": _bundle,
}


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
@pytest.mark.parametrize("door", DOORS)
async def test_no_descriptor_left_is_said_with_what_to_do_and_passes(
    moto_s3: Store, tmp_path: Path, door: str, used: bool
) -> None:
    bucket = await moto_s3.bucket()
    await moto_s3.put(bucket, "k", b"x")
    (tmp_path / "file").write_bytes(b"x")
    async with aiohaul.Session(
        region=REGION, endpoint_url=moto_s3.url, access_key_id=KEY, secret_access_key=SECRET
    ) as session:
        if used:
            await session.s3().find(bucket)
        with no_descriptor_left():
            with pytest.raises(aiohaul.HaulError, match="ulimit -n") as said:
                await DOORS[door](session, moto_s3, bucket, tmp_path)
            assert "remove this" not in str(said.value)
        await DOORS[door](session, moto_s3, bucket, tmp_path)


#: Why nothing can be opened at the moment: a number of errno.
refusals: list[int] = []


def _refuse(event: str, _: tuple[object, ...]) -> None:
    if refusals and event in ("open", "socket.__new__"):
        raise OSError(refusals[-1], os.strerror(refusals[-1]))


sys.addaudithook(_refuse)


@contextmanager
def nothing_opens(number: int) -> Iterator[None]:
    """As where the whole machine has run out of something: no file, and no socket."""
    refusals.append(number)
    try:
        yield
    finally:
        refusals.clear()


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
@pytest.mark.parametrize("door", ["head", "download", "local", "definition"])
@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENFILE, r"sysctl fs\.file-max"), (errno.ENOMEM, "not enough memory")],
    ids=["ENFILE", "ENOMEM"],
)
async def test_machine_that_has_run_out_is_said_with_what_to_do_and_passes(  # noqa: PLR0917  # pytest
    moto_s3: Store, tmp_path: Path, number: int, advice: str, door: str, used: bool
) -> None:
    bucket = await moto_s3.bucket()
    await moto_s3.put(bucket, "k", b"x")
    (tmp_path / "file").write_bytes(b"x")
    async with aiohaul.Session(
        region=REGION, endpoint_url=moto_s3.url, access_key_id=KEY, secret_access_key=SECRET
    ) as session:
        if used:
            await session.s3().find(bucket)
        with nothing_opens(number), pytest.raises(aiohaul.HaulError, match=advice):
            await DOORS[door](session, moto_s3, bucket, tmp_path)
        await DOORS[door](session, moto_s3, bucket, tmp_path)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_session_that_is_dropped_gives_its_descriptors_back_at_once(
    server: KeptServer,
) -> None:
    async with aiohaul.Session(region=REGION, endpoint_url=server.url, **KEYS) as session:
        await session.s3().head("bucket", "k")  # what stays open from the first use on
    begin = descriptors()
    for _ in range(3):
        session = aiohaul.Session(region=REGION, endpoint_url=server.url, **KEYS)
        await session.__aenter__()
        for _ in range(3):
            await session.s3().head("bucket", "k")
        await session.ssm()._clients.service("ssm")
        with pytest.warns(ResourceWarning, match=r"async with aiohaul\.Session"):
            del session
        async with asyncio.timeout(5):
            while server.open:  # noqa: ASYNC110  # threads tell nobody
                await asyncio.sleep(0.001)
    assert descriptors() <= begin


async def test_session_is_left_where_it_was_entered(server: KeptServer) -> None:
    async with aiohaul.Session(region=REGION, endpoint_url=server.url, **KEYS) as session:
        await session.s3().head("bucket", "k")
        leave = partial(session.__aexit__, None, None, None)
        with pytest.raises(aiohaul.SessionError, match="close the other Session in its own loop"):
            await asyncio.to_thread(lambda: asyncio.run(leave()))
        assert (await session.s3().head("bucket", "k")).size == 7
    with pytest.raises(aiohaul.SessionError, match="not entered"):
        await aiohaul.Session(region=REGION).__aexit__(None, None, None)


def _begun(door: Callable[[], Any]) -> None:
    """Begin it where no event loop of asyncio runs, as under trio."""
    coroutine = door()
    try:
        coroutine.send(None)
    finally:
        coroutine.close()


@pytest.mark.parametrize(
    "door",
    [
        lambda: aiohaul.Session().__aenter__(),
        lambda: aiohaul.run({"type": "batch", "tasks": []}),
        lambda: aiohaul.clean({}, journal=Path("j")),
        lambda: aiohaul.Session().lambda_().invoke("f"),
        lambda: aiohaul.Session().s3().head("bucket", "k"),
        lambda: aiohaul.Session().s3().copy([], []),
        lambda: aiohaul.Session().s3().wait_for("bucket"),
        lambda: aiohaul.Session().fargate().run("cluster", "family"),
    ],
    ids=["enter", "run", "clean", "invoke", "head", "copy", "wait_for", "fargate"],
)
def test_other_event_loops_are_refused_in_a_sentence(door: Callable[[], Any]) -> None:
    with pytest.raises(aiohaul.SessionError, match=r"asyncio|is not entered"):
        _begun(door)


async def test_names_are_changed_by_a_regex_or_its_text(moto_s3: Store) -> None:
    bucket = await moto_s3.bucket()
    await moto_s3.put(bucket, "in/old.csv", b"x")
    async with aiohaul.Session(
        region=REGION, endpoint_url=moto_s3.url, access_key_id=KEY, secret_access_key=SECRET
    ) as session:
        s3 = session.s3()
        rename = aiohaul.Rename("old", "new")
        assert rename == aiohaul.Rename(re.compile("old"), "new")
        destination = aiohaul.Destination(bucket=bucket, directory="out", rename=rename)
        await s3.copy(await s3.find(bucket, "in", "old"), [destination])
    assert await moto_s3.keys(bucket) == ["in/old.csv", "out/new.csv"]
