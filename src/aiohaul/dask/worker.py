"""Runs shards in a worker of a Dask cluster, with one Session for all shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import cast

import anyio
from distributed import Worker, WorkerPlugin, get_worker

from aiohaul.dask.shards import unpack_objects
from aiohaul.errors import HaulError, SettingsError, TransferError, UnsupportedError
from aiohaul.progress import Copied, Event, Found
from aiohaul.report import DestinationReport, Failure
from aiohaul.s3.copying.plan import Destination
from aiohaul.s3.keys import directory_prefix
from aiohaul.s3.objects import S3Object
from aiohaul.session import Session
from aiohaul.tasks.definition import Transfer, parse

#: Number of copies that a worker reports in one event.
_COPIES_PER_EVENT = 200


def parse_shardable(definition: Mapping[str, object]) -> tuple[Transfer, tuple[Destination, ...]]:
    """Parse a transfer between buckets, which the workers can run.

    Returns:
        The transfer and its destinations.

    Raises:
        DefinitionError: the definition is wrong.
        UnsupportedError: the definition is not a transfer, or has a local directory.
    """
    task = parse(definition)
    if not isinstance(task, Transfer):
        raise UnsupportedError(
            "type", "only a transfer can run on a Dask cluster: use aiohaul.run for other types"
        )
    destinations = tuple(each for each in task.destinations if isinstance(each, Destination))
    if task.source.bucket is None or len(destinations) < len(task.destinations):
        raise UnsupportedError(
            "source" if task.source.bucket is None else "destination",
            "the workers of a Dask cluster cannot reach a local directory: use aiohaul.run",
        )
    return task, destinations


class ShardRunner(WorkerPlugin):
    """Runs the shards of one transfer in a worker, with a Session on the worker's event loop.

    Args:
        definition: the definition of the transfer.
        max_requests: the number of requests that this worker may have in flight.
        journals: the directory for the journals of the shards, or None.
        report_progress: True reports each copy to the coordinator.
    """

    def __init__(
        self,
        definition: Mapping[str, object],
        max_requests: int,
        journals: Path | None,
        *,
        report_progress: bool,
    ) -> None:
        self._definition = dict(definition)
        self._max_requests = max_requests
        self._journals = journals
        self._report_progress = report_progress
        self._session: Session | None = None
        self._running: dict[anyio.CancelScope, anyio.Event] = {}

    async def setup(self, worker: Worker) -> None:
        """Open the Session. Dask calls this when the run starts, or when a worker joins later."""
        del worker
        session = Session(max_requests=self._max_requests)
        await session.__aenter__()
        self._session = session

    async def teardown(self, worker: Worker) -> None:
        """Cancel the running shards, and close the Session. Dask calls this when the run ends."""
        del worker
        session, self._session = self._session, None
        for scope in self._running:
            scope.cancel()
        for ended in list(self._running.values()):
            await ended.wait()
        if session is not None:
            await session.__aexit__(None, None, None)

    async def copy_shard(
        self, name: str, number: int, packed: bytes
    ) -> Sequence[DestinationReport]:
        """Copy a shard to all destinations. The coordinator writes the flags later.

        Args:
            name: the name of the run, to which the worker reports copies.
            number: the number of the shard.
            packed: the objects of the shard, as ``pack_objects`` returns them.

        Returns:
            One report for each destination.

        Raises:
            SettingsError: the run has ended, or was cancelled.
        """
        task, destinations = parse_shardable(self._definition)
        if self._session is None or task.source.bucket is None:
            raise SettingsError(
                f"part {number} of the objects was not copied: the run {name} has ended"
            )
        root = directory_prefix(task.source.directory) if task.source.recursive else None
        objects = unpack_objects(task.source.bucket, packed, root)
        bare = [replace(each, flag=None) for each in destinations]
        journal = self._journals / f"{_digest(packed)}.journal" if self._journals else None
        with self._cancellable():
            try:
                report = await self._session.s3(task.source.settings, task.source.options).copy(
                    objects,
                    bare,
                    on_progress=ProgressReporter(name, number, objects)
                    if self._report_progress
                    else None,
                    journal=journal,
                )
            except TransferError as error:
                report = error.report
            except HaulError as error:  # the other shards continue
                failures = tuple(Failure.of(each.uri, error) for each in objects)
                return [DestinationReport(each.uri, 0, 0, failures, None, 0.0) for each in bare]
            return report.destinations
        raise SettingsError(
            f"part {number} of the objects was not copied whole: the run {name} was cancelled"
        )

    @contextmanager
    def _cancellable(self) -> Iterator[None]:
        scope, ended = anyio.CancelScope(), anyio.Event()
        self._running[scope] = ended
        try:
            with scope:
                yield
        finally:
            del self._running[scope]
            ended.set()


async def run_shard(name: str, number: int, packed: bytes) -> Sequence[DestinationReport]:
    """Run a shard in this worker. The coordinator submits this function to Dask."""
    runner = cast("ShardRunner", get_worker().plugins[name])
    return await runner.copy_shard(name, number, packed)


class ProgressReporter:
    """Reports copies to the coordinator, in groups of 200.

    The last copies of a shard, fewer than 200, are reported with the result of the shard only.
    """

    def __init__(self, name: str, number: int, objects: Sequence[S3Object]) -> None:
        self._name = name
        self._number = number
        self._sources = {each.uri: at for at, each in enumerate(objects)}
        self._destinations: dict[str, int] = {}
        self._copies: list[tuple[int, int]] = []
        self._worker = get_worker()

    def __call__(self, event: Event) -> None:
        """Record an event of a shard, and send a group of copies when there are enough."""
        if isinstance(event, Found):
            self._destinations = {name: at for at, name in enumerate(event.destinations)}
        elif isinstance(event, Copied):
            self._copies.append(
                (self._sources[event.source], self._destinations[event.destination])
            )
            if len(self._copies) >= _COPIES_PER_EVENT:
                self._worker.log_event(self._name, (self._number, self._copies))
                self._copies = []


def _digest(packed: bytes) -> str:
    return sha256(packed).hexdigest()[:16]
