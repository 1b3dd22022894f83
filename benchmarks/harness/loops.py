"""How long an event loop stands still."""

from __future__ import annotations

import asyncio
import time


class Monitor:
    """The longest time that the event loop did not give a task its turn.

    Attributes:
        longest: seconds; may be set to 0 to begin anew.
        longest_cpu: the same in seconds of CPU of the loop's thread: what the loop itself did, and
            not the machine's other work. The pause is in it where other tasks had their turns.
    """

    def __init__(self, pause: float = 0.0) -> None:
        self.longest = 0.0
        self.longest_cpu = 0.0
        self._pause = pause

    def stop(self) -> tuple[float, float]:
        """Both figures; they begin anew."""
        both = self.longest, self.longest_cpu
        self.longest = self.longest_cpu = 0.0
        return both

    async def run(self) -> None:
        """Watch the loop until cancelled."""
        last, last_cpu = time.perf_counter(), time.thread_time()
        while True:
            await asyncio.sleep(self._pause)
            now, cpu = time.perf_counter(), time.thread_time()
            self.longest = max(self.longest, now - last - self._pause)
            self.longest_cpu = max(self.longest_cpu, cpu - last_cpu)
            last, last_cpu = now, cpu
