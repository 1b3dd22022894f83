"""What is still open when nothing should be."""

from __future__ import annotations

from pathlib import Path

from aiohaul import Session
from tests.support.connections import pools_of


def descriptors() -> int:
    """How many files and sockets this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def held_connections(session: Session) -> list[str]:
    """Connections that are in use by nobody, and slots that are taken by nobody."""
    held = [
        f"{service._limiter.in_flight} slots of {service.endpoint}"
        for service in session._clients._services.values()
        if service._limiter.in_flight
    ]
    for pool in pools_of(session):
        in_use = pool.open_count - pool.idle_count
        if in_use:
            held.append(f"{in_use} connections")
    return held
