"""What the cells of ``nox -s compat`` promise: that each is the environment that it says it is.

Each sets variables: AIOHAUL_LOOP=uvloop has the tests, and blocking calls, run on that event loop;
AIOHAUL_DEPENDENCIES=lowest says that the oldest versions which pyproject.toml admits are installed.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from anyio import to_thread
from packaging.requirements import Requirement
from packaging.version import Version

import aiohaul
from aiohaul import blocking
from tests.support import servers
from tests.support.gateway import gateway
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import store

LOOP = os.environ.get("AIOHAUL_LOOP", "asyncio")
MIB = 2**20

pytestmark = pytest.mark.smoke


async def _loop_of_a_blocking_call(_: aiohaul.Session) -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def test_loop_is_the_one_that_was_asked_for() -> None:
    behind = await to_thread.run_sync(blocking.call, _loop_of_a_blocking_call)
    for loop in (asyncio.get_running_loop(), behind):
        assert type(loop).__module__.split(".")[0] == LOOP


async def test_copy_over_tls(moto_url: str, certificate: Path) -> None:
    """A multipart upload of what is read over TLS, and server-side copies."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    encrypted: list[bool] = []
    data = os.urandom(12 * MIB)
    async with gateway(moto_url, tls=tls) as way, store(moto_url, "moto") as s3:
        way.noting = lambda request: encrypted.append(request.secure)
        one, two = await s3.bucket(), await s3.bucket()
        await s3.put(one, "src/large", data)
        settings = aiohaul.Settings(
            access_key_id=KEY, secret_access_key=SECRET, region=REGION, endpoint_url=way.url
        )
        another = replace(settings, access_key_id="another")  # S3 does not copy between identities
        async with aiohaul.Session(ca_bundle=certificate) as session:
            handler = session.s3(settings)
            found = await handler.find(one, "src")
            for name, there in (("server-side", settings), ("worker", another)):
                to = aiohaul.Destination(bucket=two, directory=name, settings=there)
                await handler.copy(found, [to])
        assert await s3.contents(two) == {"server-side/large": data, "worker/large": data}
    assert way.count("COPY") == 1
    assert way.count("PUT .*partNumber") > 1
    assert encrypted
    assert all(encrypted)


def _admitted() -> list[tuple[str, Version]]:
    """What the package needs, its extras as well, of what is installed here: the lower bounds."""
    found = []
    for text in metadata.requires("aiohaul") or ():
        requirement = Requirement(text)
        bounds = [each.version for each in requirement.specifier if each.operator == ">="]
        try:
            metadata.version(requirement.name)
        except metadata.PackageNotFoundError:  # an extra
            continue
        (bound,) = bounds  # every one has its lower bound
        found.append((requirement.name, Version(bound)))
    return found


@pytest.mark.parametrize(("name", "bound"), _admitted())
def test_dependency_is_one_that_is_admitted(name: str, bound: Version) -> None:
    """And where the lowest are asked for, the bound is a version that there is, and is tried."""
    installed = Version(metadata.version(name))
    if os.environ.get("AIOHAUL_DEPENDENCIES") == "lowest":
        assert installed == bound
    assert installed >= bound


def test_checks_do_not_vanish_with_asserts() -> None:
    """Under ``python -O``: those of test modules, and those of the modules that they share."""
    with pytest.raises(AssertionError):
        assert not LOOP
    with pytest.raises(AssertionError, match="a program that is not there is not installed"):
        servers.script("a program that is not there")
