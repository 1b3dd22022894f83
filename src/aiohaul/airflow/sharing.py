"""One Session for all triggers of an event loop that have the same settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from aiohaul.cancellation import to_its_end
from aiohaul.session import Session
from aiohaul.settings import Settings

#: Seconds that the last one to leave waits for the Session's end once it is cancelled, and in all.
_GRACE = 5.0
_CLOSE_TIMEOUT = 30.0


@dataclass(slots=True)
class _Shared:
    session: Session
    users: int = 0


#: Triggers have nobody above them who could hand them a Session: all that they have in common is
#: the loop. When that is gone, so is its entry.
_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Settings, _Shared]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_session(settings: Settings) -> AsyncIterator[Session]:
    """The Session of this loop for these settings: made for the first, closed after the last.

    Args:
        settings: who and where; what they leave open comes from the environment.
    """
    sessions = _shared.setdefault(asyncio.get_running_loop(), {})
    shared = sessions.get(settings)
    if shared is None:
        shared = sessions[settings] = _Shared(_session(settings))
        await shared.session.__aenter__()  # suspends nowhere: the next one finds it entered
    shared.users += 1
    try:
        yield shared.session
    finally:
        shared.users -= 1
        if not shared.users:
            # From here on it is nobody's any more: who comes now makes a new one.
            del sessions[settings]
            await to_its_end(lambda: _close(shared.session), _GRACE, _ignore, _CLOSE_TIMEOUT)


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


def _ignore(_: None) -> None:
    pass
