from __future__ import annotations

import asyncio
import gc
import os
import warnings
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

#: Before any of them is imported: their asserts are checks under ``python -O`` too.
pytest.register_assert_rewrite("tests.support")

import hypothesis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support import known, servers
from tests.support.gateway import Gateway, gateway
from tests.support.store import Store, store
from tests.support.stores import asked_for

if os.environ.get("AIOHAUL_LOOP") == "uvloop":
    import uvloop

    with warnings.catch_warnings():  # newer Pythons want no more policies; pytest-asyncio has one
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

if os.environ.get("AIOHAUL_LOOP") == "eager":

    class _EagerPolicy(asyncio.DefaultEventLoopPolicy):
        """Tasks run in ``create_task`` up to where they wait."""

        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            loop = super().new_event_loop()
            loop.set_task_factory(vars(asyncio)["eager_task_factory"])  # from Python 3.12 on
            return loop

    with warnings.catch_warnings():  # as above
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(_EagerPolicy())

# A busy machine is no fault, and a change is not blamed for an input that was never drawn before.
hypothesis.settings.register_profile(
    "repeatable", deadline=None, derandomize="AIOHAUL_RANDOM" not in os.environ
)
hypothesis.settings.load_profile("repeatable")

pytest_plugins = tuple(
    f"tests.support.{room}_fixtures"
    for room in ("cli", "compute", "otf", "stores", "telemetry", "watch")
)


@pytest.fixture(autouse=True)
def no_aws_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable, file or metadata service of the machine reaches a test."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def direct_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the direct way itself: the rest may be run without it."""
    monkeypatch.delenv("AIOHAUL_DIRECT", raising=False)


@pytest.fixture(autouse=True)
async def nothing_left_running() -> AsyncIterator[None]:
    """A task that outlives its test fails it; so does, as a warning, an unclosed connection."""
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"still running: {left}"
    gc.collect()
    gc.freeze()  # what is still there stays for the session: the next one need not look through it


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with servers.moto() as url:
        yield url


@pytest.fixture(scope="session")
def rclone_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.rclone(tmp_path_factory.mktemp("rclone")) as url:
        yield url


#: The servers of tests that need nothing of one server's own; AIOHAUL_STORES names others.
SERVERS = asked_for() if "AIOHAUL_STORES" in os.environ else ["moto", "rclone"]


@pytest.fixture(params=SERVERS)
async def s3(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """A store on each of these servers."""
    name: str = request.param
    if name in ("moto", "rclone"):
        url = request.getfixturevalue(f"{name}_url")
    else:
        server = request.getfixturevalue("started_store")(name)
        url = server.url
        if reason := known.failure(request.function.__name__, server):
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    async with store(url, name) as made:
        yield made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that run on any store: those that take theirs from the fixture ``s3``."""
    for item in items:
        if "s3" in getattr(item, "fixturenames", ()):
            item.add_marker("any_store")


@pytest.fixture
async def moto_s3(moto_url: str) -> AsyncIterator[Store]:
    """A store on moto alone, for what only it keeps: ACLs, storage classes, roles."""
    async with store(moto_url, "moto") as made:
        yield made


@pytest.fixture
async def rclone_s3(rclone_url: str) -> AsyncIterator[Store]:
    """A store on rclone alone, for many objects: it is the faster one."""
    async with store(rclone_url, "rclone") as made:
        yield made


@pytest.fixture
async def proxied(moto_url: str) -> AsyncIterator[tuple[Gateway, Store]]:
    """A gateway before moto, and a store behind it whose protocol leads through the gateway."""
    async with gateway(moto_url) as way, store(moto_url, "moto") as made:
        made.url = way.url
        yield way, made


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of its own for this machine, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(secret + made.public_bytes(pem))
    return file
