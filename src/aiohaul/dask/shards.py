"""Pure: shards as they are sent, and what became of them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from aiohaul.errors import HaulError
from aiohaul.progress import Copied, Failed, OnProgress
from aiohaul.report import DestinationReport, Failure
from aiohaul.s3.copying.plan import Destination
from aiohaul.s3.objects import S3Object


def packed(objects: Sequence[S3Object]) -> bytes:
    """Versions of objects of one bucket, column by column, in a tenth of the room."""
    columns = [
        [each.key for each in objects],
        [each.size for each in objects],
        [each.etag for each in objects],
        [each.last_modified.isoformat() for each in objects],
        [each.storage_class for each in objects],
    ]
    return zlib.compress(json.dumps(columns).encode(), level=1)


def unpacked(bucket: str, piece: bytes) -> list[S3Object]:
    """What was packed."""
    keys, sizes, etags, times, classes = json.loads(zlib.decompress(piece))
    return [
        S3Object(bucket, key, size, etag, datetime.fromisoformat(time), storage_class)
        for key, size, etag, time, storage_class in zip(
            keys, sizes, etags, times, classes, strict=True
        )
    ]


@dataclass
class _Open:
    """A shard that is under way, and which of its copies were told of."""

    objects: Sequence[S3Object]
    told: set[tuple[int, int]] = field(default_factory=set)


class Ledger:
    """What became of every object at every destination, each of which is entered once.

    Args:
        destinations: where the objects go.
        names: of these, in reports.
        tell: told of every object.
    """

    def __init__(
        self, destinations: Sequence[Destination], names: Sequence[str], tell: OnProgress
    ) -> None:
        self._destinations = destinations
        self._tell = tell
        self._open: dict[int, _Open] = {}
        self._reports = [DestinationReport(name, 0, 0, (), None, 0.0) for name in names]

    def begin(self, number: int, objects: Sequence[S3Object]) -> None:
        """A shard is under way."""
        self._open[number] = _Open(objects)

    def hear(self, event: tuple[Any, Any]) -> None:
        """A worker tells of some copies. One that took over a shard tells of some again."""
        number, copies = event[1]
        shard = self._open.get(number)
        if shard is not None:
            for source, destination in copies:
                self._copied(shard, source, destination)

    def end(self, number: int, reports: Sequence[DestinationReport]) -> None:
        """A shard has ended."""
        shard = self._open.pop(number)
        for at, report in enumerate(reports):
            missing = {failure.source for failure in report.failures}
            for source, each in enumerate(shard.objects):
                if each.uri not in missing:
                    self._copied(shard, source, at)
            self._enter(at, report)

    def lose(self, number: int, error: BaseException) -> None:
        """A shard can be run nowhere."""
        shard = self._open.pop(number)
        kind = type(error).__name__
        failures = tuple(Failure(each.uri, str(error), kind) for each in shard.objects)
        for at in range(len(self._reports)):
            self._enter(at, DestinationReport("", 0, 0, failures, None, 0.0))

    def reports(self, seconds: float) -> tuple[DestinationReport, ...]:
        """A report for each destination."""
        return tuple(replace(each, seconds=round(seconds, 3)) for each in self._reports)

    def _enter(self, at: int, report: DestinationReport) -> None:
        known = self._reports[at]
        for failure in report.failures:
            self._tell(Failed(failure.source, known.destination, HaulError(failure.error)))
        self._reports[at] = replace(
            known,
            objects=known.objects + report.objects,
            size=known.size + report.size,
            kept=known.kept + report.kept,
            failures=known.failures + report.failures,
        )

    def _copied(self, shard: _Open, source: int, at: int) -> None:
        if (source, at) in shard.told:
            return
        shard.told.add((source, at))
        each = shard.objects[source]
        target = self._destinations[at].target(each.name)
        self._tell(Copied(each.uri, target, self._reports[at].destination, each.size))
