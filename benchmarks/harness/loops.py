"""How long an event loop stands still."""

from __future__ import annotations

import asyncio
import time


class Monitor:
    """The longest time that the event loop did not give a task its turn.

    Attributes:
        longest: seconds; may be set to 0 to begin anew.
    """

    def __init__(self, pause: float = 0.0) -> None:
        self.longest = 0.0
        self._pause = pause

    async def run(self) -> None:
        """Watch the loop until cancelled."""
        last = time.perf_counter()
        while True:
            await asyncio.sleep(self._pause)
            now = time.perf_counter()
            self.longest = max(self.longest, now - last - self._pause)
            last = now
