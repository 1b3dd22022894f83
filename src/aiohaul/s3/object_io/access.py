"""The part of S3Handler that the methods in this room need."""

from __future__ import annotations

from typing import Protocol

from aiohaul.aws.clients import Clients
from aiohaul.aws.service import Service
from aiohaul.errors import PlanError


class S3Access(Protocol):
    """The clients of a handler. S3Handler has the functions of this room as methods."""

    _clients: Clients
    #: The storage classes whose objects are left out of listings.
    _ignored: frozenset[str]

    async def _s3(self) -> Service: ...


def checked_limit(name: str, value: int) -> int:
    """Return ``value`` if it is at least 1.

    Raises:
        PlanError: the value is below 1.
    """
    if value < 1:
        raise PlanError(f"{name} must be at least 1, not {value}")
    return value
