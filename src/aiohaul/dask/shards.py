"""Encodes shards for the workers, and collects the results of the shards. Does no I/O."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from aiohaul.errors import HaulError
from aiohaul.progress import Copied, Failed, OnProgress
from aiohaul.report import DestinationReport, Failure
from aiohaul.s3.copying.plan import Destination
from aiohaul.s3.objects import S3Object


def pack_objects(objects: Sequence[S3Object]) -> bytes:
    """Encode objects of one bucket as compressed JSON, in a tenth of the size of a pickle."""
    columns = [
        [each.key for each in objects],
        [each.size for each in objects],
        [each.etag for each in objects],
        [each.last_modified.isoformat() for each in objects],
        [each.storage_class for each in objects],
    ]
    return zlib.compress(json.dumps(columns).encode(), level=1)


def unpack_objects(bucket: str, packed: bytes, root: str | None = None) -> list[S3Object]:
    """Decode the objects that :func:`pack_objects` encoded, all with this ``root``."""
    keys, sizes, etags, times, classes = json.loads(zlib.decompress(packed))
    return [
        S3Object(bucket, key, size, etag, datetime.fromisoformat(time), storage_class, root)
        for key, size, etag, time, storage_class in zip(
            keys, sizes, etags, times, classes, strict=True
        )
    ]


@dataclass
class _RunningShard:
    """A shard that a worker copies now.

    Attributes:
        objects: the objects of the shard.
        reported: the copies that were reported, each as the index of the object and the index of
            the destination.
    """

    objects: Sequence[S3Object]
    reported: set[tuple[int, int]] = field(default_factory=set)


class ShardResults:
    """Collects the results of the shards, and reports each copy of an object once.

    Args:
        destinations: the destinations.
        names: the names of the destinations in reports.
        on_progress: called with an event for each copy.
    """

    def __init__(
        self, destinations: Sequence[Destination], names: Sequence[str], on_progress: OnProgress
    ) -> None:
        self._destinations = destinations
        self._on_progress = on_progress
        self._running: dict[int, _RunningShard] = {}
        self._reports = [DestinationReport(name, 0, 0, (), None, 0.0) for name in names]

    def record_start(self, number: int, objects: Sequence[S3Object]) -> None:
        """Record that a shard runs.

        Args:
            number: the number of the shard.
            objects: the objects of the shard.
        """
        self._running[number] = _RunningShard(objects)

    def on_worker_event(self, event: tuple[float, tuple[int, Sequence[tuple[int, int]]]]) -> None:
        """Report the copies that a worker has made.

        Copies may arrive twice, because another worker copies the shard again if a worker dies.

        Args:
            event: the time of Dask's event; the number of the shard, and the index of the object
                and the index of the destination of each copy.
        """
        number, copies = event[1]
        shard = self._running.get(number)
        if shard is not None:
            for source, destination in copies:
                self._report_copy(shard, source, destination)

    def record_end(self, number: int, reports: Sequence[DestinationReport]) -> None:
        """Record the reports of a shard that has ended, one for each destination."""
        shard = self._running.pop(number)
        for index, report in enumerate(reports):
            missing = {failure.source for failure in report.failures}
            for source, each in enumerate(shard.objects):
                if each.uri not in missing:
                    self._report_copy(shard, source, index)
            self._add_report(index, report)

    def record_lost(self, number: int, error: BaseException) -> None:
        """Record that all objects of a shard failed with the same error."""
        shard = self._running.pop(number)
        failure = Failure.of("", error)
        failures = tuple(replace(failure, source=each.uri) for each in shard.objects)
        for at in range(len(self._reports)):
            self._add_report(at, DestinationReport("", 0, 0, failures, None, 0.0))

    def reports(self, seconds: float) -> tuple[DestinationReport, ...]:
        """Return one report for each destination.

        Args:
            seconds: the duration of the run, for the reports.
        """
        return tuple(replace(each, seconds=round(seconds, 3)) for each in self._reports)

    def _add_report(self, at: int, report: DestinationReport) -> None:
        known = self._reports[at]
        for failure in report.failures:
            error = failure.exception or HaulError(failure.error)
            self._on_progress(Failed(failure.source, known.destination, error))
        self._reports[at] = replace(
            known,
            objects=known.objects + report.objects,
            size=known.size + report.size,
            already_there=known.already_there + report.already_there,
            failures=known.failures + report.failures,
        )

    def _report_copy(self, shard: _RunningShard, source: int, at: int) -> None:
        if (source, at) in shard.reported:
            return
        shard.reported.add((source, at))
        each = shard.objects[source]
        target = self._destinations[at].target(each.name, each.folder)
        self._on_progress(Copied(each.uri, target, self._reports[at].destination, each.size))
