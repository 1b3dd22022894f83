"""What the tests of direct requests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.fake_region import FakeS3


@pytest.fixture
async def fake() -> AsyncIterator[FakeS3]:
    """A server that is in one region."""
    async with FakeS3() as server:
        yield server
