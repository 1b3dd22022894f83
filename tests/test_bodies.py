"""Bodies of many bytes: hashed once for everybody, and carried without detours."""

from __future__ import annotations

import ssl
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from aiohaul import Destination, S3Object, Settings
from aiohaul.aws.direct import payload, wire
from aiohaul.aws.direct.payload import Payload
from aiohaul.s3.streaming import piece
from aiohaul.s3.streaming.parts import PART_SIZE
from fake_s3 import FakeS3, content, fake_s3
from servers import KEY, REGION, SECRET

SIZE = 3 * PART_SIZE + 100_000


class Hashed(Counter[str]):
    """Bytes of parts that were hashed, by what hashed them."""

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Count all that goes through the one function that hashes."""
        compute = payload.computed

        async def computed(function: Callable[[bytes], Any], data: bytes) -> Any:
            if len(data) >= 100_000:  # the others are documents
                self[getattr(function, "__name__", repr(function))] += len(data)
            return await compute(function, data)

        for module in (payload, wire, piece):
            monkeypatch.setattr(module, "computed", computed)


@pytest.fixture(params=["http", "https"])
async def fakes(
    request: pytest.FixtureRequest, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[FakeS3]]:
    """A source and three destinations."""
    context = None
    if request.param == "https":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(fake_s3(context)) for _ in range(4)]


def settings(url: str) -> Settings:
    return Settings(access_key_id=KEY, secret_access_key=SECRET, region=REGION, endpoint_url=url)


async def haul(session: aiohaul.Session, fakes: list[FakeS3], key: str, size: int = SIZE) -> None:
    first, *rest = fakes
    first.sources[f"/in/{key}"] = size
    source = S3Object("in", key, size, "0-1", datetime(2026, 1, 1, tzinfo=UTC))
    to = [Destination(bucket="out", settings=settings(each.url)) for each in rest]
    await session.s3(settings(first.url)).copy([source], to)


async def test_every_byte_is_hashed_once_for_all_destinations(
    fakes: list[FakeS3], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with aiohaul.Session() as session:
        await haul(session, fakes, "before")  # how requests are sent is learnt
        hashed = Hashed()
        hashed.watch(monkeypatch)
        await haul(session, fakes, "a")
    name = next(name for name in hashed if name.startswith("crc"))
    # TLS and a checksum vouch for a body; without TLS it is signed, which takes its SHA-256.
    tls = fakes[0].url.startswith("https:")
    assert hashed == ({name: SIZE} if tls else {name: SIZE, "hexdigest": SIZE})
    assert {each.objects["/out/a"].crc for each in fakes[1:]} == {zlib.crc32(content(0, SIZE))}


async def test_part_that_is_sent_again_is_not_hashed_again(
    fakes: list[FakeS3], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with aiohaul.Session() as session:
        await haul(session, fakes, "before")
        hashed = Hashed()
        hashed.watch(monkeypatch)
        fakes[1].fail("PUT /out/a.*partNumber=2$", 500, "InternalError", 2)
        await haul(session, fakes, "a")
    assert fakes[1].count("PUT /out/a.*partNumber=2$") == 3
    assert set(hashed.values()) == {SIZE}


async def test_digest_that_nobody_waited_for_is_computed_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class LostError(Exception):
        pass

    async def broken(function: Any, data: bytes) -> str:  # noqa: ARG001
        raise LostError

    body = Payload(content(0, 1000))
    with monkeypatch.context() as patched:
        patched.setattr(payload, "computed", broken)
        with pytest.raises(LostError):
            await body.sha256()
    assert await body.sha256() == payload.hexdigest(content(0, 1000))
