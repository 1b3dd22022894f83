"""Shares one Session among all triggers that have the same event loop and the same settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from aiohaul.cancellation import run_shielded
from aiohaul.session import Session
from aiohaul.settings import Settings

#: Seconds for which the last trigger waits until the Session is closed, after the trigger is
#: cancelled; and the maximum number of seconds without a cancellation.
_GRACE = 5.0
_CLOSE_TIMEOUT = 30.0


@dataclass(slots=True)
class _Shared:
    session: Session
    users: int = 0


#: The Sessions of each event loop. The entry is removed when the event loop is freed.
_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Settings, _Shared]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_session(settings: Settings) -> AsyncIterator[Session]:
    """Yield the shared Session of this event loop for some settings.

    The first user opens the Session, and the last user closes the Session.

    Args:
        settings: credentials, region and endpoint. The Session reads missing values from the
            environment.
    """
    sessions = _shared.setdefault(asyncio.get_running_loop(), {})
    shared = sessions.get(settings)
    if shared is None:
        shared = sessions[settings] = _Shared(_session(settings))
        # This await never suspends, so another user cannot get a Session that is not open yet.
        await shared.session.__aenter__()
    shared.users += 1
    try:
        yield shared.session
    finally:
        shared.users -= 1
        if not shared.users:
            # The next user opens a new Session.
            del sessions[settings]
            await run_shielded(lambda: _close(shared.session), _GRACE, timeout=_CLOSE_TIMEOUT)


def _session(settings: Settings) -> Session:
    return Session(
        region=settings.region,
        endpoint_url=settings.endpoint_url,
        access_key_id=settings.access_key_id,
        secret_access_key=settings.secret_access_key,
        session_token=settings.session_token,
        role_arn=settings.role_arn,
        role_external_id=settings.role_external_id,
        role_duration=settings.role_duration,
    )


async def _close(session: Session) -> None:
    await session.__aexit__(None, None, None)
