"""What the tests of objects by key share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import aiohaul
from tests.support import leaks
from tests.support.sessions import session_of
from tests.support.store import Store


@pytest.fixture
async def session(s3: Store) -> AsyncIterator[aiohaul.Session]:
    """A Session for the server, which leaves nothing open."""
    async with session_of(s3.url) as made:
        yield made
        assert leaks.held_connections(made) == []
