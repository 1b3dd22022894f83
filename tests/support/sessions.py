"""Sessions with the keys of the tests' servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohaul
from aiohaul.aws.service import Service
from tests.support.servers import KEY, REGION, SECRET


def session_of(url: str, **more: Any) -> aiohaul.Session:
    """A Session for the server at this address."""
    return aiohaul.Session(
        region=REGION, endpoint_url=url, access_key_id=KEY, secret_access_key=SECRET, **more
    )


@asynccontextmanager
async def s3_service(url: str, **more: Any) -> AsyncIterator[Service]:
    """The service that sends a Session's requests to S3."""
    async with session_of(url, **more) as session:
        yield await session._clients.service("s3")
