"""Pure: how often a request is sent, and how long it waits before that."""

from __future__ import annotations

import random

#: How often a request is sent in all, where sending it again may help.
ATTEMPTS = 5
#: What services call a token whose time is over.
EXPIRED = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired")
#: The first pause before another attempt, in seconds, and how often it is doubled: up to 16 s.
_PAUSE = 0.5
_DOUBLINGS = 5


def pause_before(attempt: int, retry_after: float | None) -> float:
    """Seconds to wait before an attempt, the second being 2: what the answer asks for, or more.

    Without such an answer it is random up to a bound that doubles: callers that were throttled
    together must not come back together.
    """
    if retry_after is not None:
        return retry_after
    bound = _PAUSE * 2 ** min(attempt - 2, _DOUBLINGS)
    return random.uniform(0, bound)  # noqa: S311  # no secret
