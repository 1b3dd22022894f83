"""The stores of tests.support.stores, each started when the first test of a session asks for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.store import Store, store
from tests.support.stores import NotReadyError, StoreServer, asked_for, running

Started = Callable[[str], StoreServer]


@pytest.fixture(scope="session")
def started_store() -> Iterator[Started]:
    """Gives a store by its name. One that cannot start fails each of its tests, at once."""
    there: dict[str, StoreServer | NotReadyError] = {}
    with ExitStack() as stack:

        def start(name: str) -> StoreServer:
            if name not in there:
                try:
                    there[name] = stack.enter_context(running(name))
                except NotReadyError as error:
                    there[name] = error
            found = there[name]
            if isinstance(found, NotReadyError):
                raise found
            return found

        yield start


@pytest.fixture(params=asked_for())
def store_server(request: pytest.FixtureRequest, started_store: Started) -> StoreServer:
    """Each of the stores that were asked for."""
    return started_store(request.param)


@pytest.fixture
async def store_s3(store_server: StoreServer) -> AsyncIterator[Store]:
    """What is really in each of the stores that were asked for."""
    async with store(store_server.url, store_server.name) as made:
        yield made
