from __future__ import annotations

from collections.abc import AsyncIterator, Generator

import pytest

import aiohaul
from tests.stores import table
from tests.support import known
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store
from tests.support.stores import StoreServer

#: The store of a test, and its version.
STORE = pytest.StashKey[tuple[str, str]]()


@pytest.fixture
async def session(store_s3: Store) -> AsyncIterator[aiohaul.Session]:
    """A Session at the store."""
    async with aiohaul.Session(
        region=REGION, endpoint_url=store_s3.url, access_key_id=KEY, secret_access_key=SECRET
    ) as made:
        yield made


@pytest.fixture
def handler(session: aiohaul.Session) -> aiohaul.S3Handler:
    return session.s3()


@pytest.fixture(autouse=True)
def fails_where_it_is_known_to(request: pytest.FixtureRequest) -> None:
    """A failure that is known is expected: once it is mended, the test fails until it is told."""
    feature = request.node.get_closest_marker("feature")
    names = {"store_server", "killable", "cloud"} & set(request.fixturenames)
    if feature is None or not names:
        return
    server: StoreServer = request.getfixturevalue(names.pop())
    request.node.stash[STORE] = server.name, server.version
    if reason := known.failure(feature.args[0], server):
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests of cloud services, or of kills, if no store that was asked for has them."""
    empty = [each for each in items if any(map(_is_of_no_store, each.iter_markers("skip")))]
    items[:] = [each for each in items if each not in empty]
    config.hook.pytest_deselected(items=empty)


def _is_of_no_store(mark: pytest.Mark) -> bool:
    return str(mark.kwargs.get("reason", "")).startswith("got empty parameter set")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write down what ran on which store, where the table is to be written."""
    report = yield
    if call.when == "call" and (store := item.stash.get(STORE, None)):
        table.note(item, store, report)
    return report
