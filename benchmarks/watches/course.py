"""The course of one measurement of watches, the same for every way: it needs nothing installed."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.harness.surroundings import resident

#: Seconds between two looks, and seconds that are measured.
INTERVAL = 5.0
SECONDS = 8.0
#: Watches of one prefix; each sees the names that end in its own digit.
SHARING = 10
#: Objects that appear in each prefix, each second.
RATE = 1.0


@dataclass
class Measured:
    """What one way has shown.

    Attributes:
        watches: how many watched.
        resident: bytes that were resident in the end.
        added: bytes of these that the watches added.
        cpu: share of one core.
        requests: listings a second.
        ready: seconds until every watch had looked for the first time.
        appeared: objects that appeared.
        delays: seconds from an object's appearance to its being seen.
        stop: the longest stop of the loop in seconds; 0 where there is none.
    """

    watches: int
    resident: int
    added: int
    cpu: float
    requests: float
    ready: float
    appeared: int
    delays: list[float]
    stop: float = 0.0


def place(number: int) -> tuple[str, str]:
    """Directory and regex of a watch."""
    return f"p{number // SHARING:04}", rf"\d*{number % SHARING}$"


def ask(url: str, what: str) -> dict[str, int]:
    """Ask the server for something other than a listing."""
    with urllib.request.urlopen(f"{url}/-/{what}", timeout=30) as answer:  # noqa: S310  # its own
        counts: dict[str, int] = json.load(answer)
    return counts


class Course:
    """The course of one measurement: the same for every way."""

    def __init__(self, url: str, watches: int) -> None:
        self._url = url
        self._watches = watches
        self._delays: list[float] = []
        self._before = resident()
        self._begun = time.perf_counter()

    def seen(self, name: str) -> None:
        """A watch has seen an object for the first time."""
        self._delays.append((time.monotonic_ns() - int(name)) / 1e9)

    def steps(self) -> Iterator[float]:
        """Seconds to wait, again and again; at the end, ``measured`` has it all."""
        ready = time.perf_counter() - self._begun
        yield INTERVAL  # from now on the looks are spread over the interval
        prefixes = -(-self._watches // SHARING)
        listed = ask(self._url, "counts")["listed"]
        rate = prefixes * RATE
        ask(self._url, f"put?prefixes={prefixes}&rate={rate}&seconds={SECONDS}")
        wall, cpu = time.perf_counter(), time.process_time()
        yield SECONDS
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        counts = ask(self._url, "counts")
        for _ in range(20):  # what appeared last is seen last
            if len(self._delays) >= counts["appeared"]:
                break
            yield INTERVAL / 10
            counts["appeared"] = ask(self._url, "counts")["appeared"]
        self.measured = Measured(
            self._watches,
            resident(),
            resident() - self._before,
            cpu / wall,
            (counts["listed"] - listed) / wall,
            ready,
            counts["appeared"],
            self._delays,
        )
