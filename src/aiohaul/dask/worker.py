"""What goes on in a worker: one Session, and one shard after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
from distributed import WorkerPlugin, get_worker

from aiohaul.dask.shards import unpacked
from aiohaul.errors import HaulError, SettingsError, TransferError, UnsupportedError
from aiohaul.progress import Copied, Event, Found
from aiohaul.report import DestinationReport, Failure
from aiohaul.s3.copying.plan import Destination
from aiohaul.s3.objects import S3Object
from aiohaul.session import Session
from aiohaul.tasks.definition import Transfer, parse

#: Objects of which a worker tells at once.
_TOLD_AT_ONCE = 200


def divisible(definition: Mapping[str, Any]) -> tuple[Transfer, tuple[Destination, ...]]:
    """A transfer that any machine can carry out, and its destinations.

    Raises:
        DefinitionError: it is wrong, or not for a cluster (UnsupportedError).
    """
    task = parse(definition)
    if not isinstance(task, Transfer):
        raise UnsupportedError("type", "only transfers are cut into shards: use aiohaul.run")
    destinations = tuple(each for each in task.destinations if isinstance(each, Destination))
    if task.source.bucket is None or len(destinations) < len(task.destinations):
        raise UnsupportedError(
            "source" if task.source.bucket is None else "destination",
            "a directory of this machine is not one of the workers': use aiohaul.run",
        )
    return task, destinations


class ShardRunner(WorkerPlugin):
    """What a worker needs for one transfer: a Session on the worker's loop, and what it runs.

    Args:
        definition: of the transfer.
        max_requests: in flight at once here: this worker's share.
        journals: the directory for the journals of shards, or None.
        telling: whether somebody wants to know of every object.
    """

    def __init__(
        self,
        definition: Mapping[str, Any],
        max_requests: int,
        journals: Path | None,
        *,
        telling: bool,
    ) -> None:
        self._definition = dict(definition)
        self._max_requests = max_requests
        self._journals = journals
        self._telling = telling
        self._session: Session | None = None
        self._running: dict[anyio.CancelScope, anyio.Event] = {}

    async def setup(self, worker: Any) -> None:
        """The run begins, or this worker has come to it."""
        del worker
        session = Session(max_requests=self._max_requests)
        await session.__aenter__()
        self._session = session

    async def teardown(self, worker: Any) -> None:
        """The run is over, or cancelled: nothing of it goes on here after this."""
        del worker
        session, self._session = self._session, None
        for scope in self._running:
            scope.cancel()
        for ended in list(self._running.values()):
            await ended.wait()
        if session is not None:
            await session.__aexit__(None, None, None)

    async def haul(self, name: str, number: int, piece: bytes) -> Sequence[DestinationReport]:
        """Copy a shard to all destinations, but for their flags."""
        task, destinations = divisible(self._definition)
        if self._session is None or task.source.bucket is None:
            raise SettingsError("the run is over")
        objects = unpacked(task.source.bucket, piece)
        bare = [replace(each, flag=None) for each in destinations]
        journal = self._journals / f"{_digest(piece)}.journal" if self._journals else None
        with self._cancellable():
            try:
                report = await self._session.s3(task.source.settings).copy(
                    objects,
                    bare,
                    on_progress=_Teller(name, number, objects) if self._telling else None,
                    journal=journal,
                )
            except TransferError as error:
                report = error.report
            except HaulError as error:  # in the report, beside those of other shards
                failures = tuple(Failure.of(each.uri, error) for each in objects)
                return [DestinationReport(each.uri, 0, 0, failures, None, 0.0) for each in bare]
            return report.destinations
        raise SettingsError("the run was cancelled")

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


async def haul_shard(name: str, number: int, piece: bytes) -> Sequence[DestinationReport]:
    """What a worker is sent."""
    runner: Any = get_worker().plugins[name]
    reports: Sequence[DestinationReport] = await runner.haul(name, number, piece)
    return reports


class _Teller:
    """Tells the coordinator of copies, many at once; the last ones are in the shard's result."""

    def __init__(self, name: str, number: int, objects: Sequence[S3Object]) -> None:
        self._name = name
        self._number = number
        self._sources = {each.uri: at for at, each in enumerate(objects)}
        self._destinations: dict[str, int] = {}
        self._copies: list[tuple[int, int]] = []
        self._worker = get_worker()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Found):
            self._destinations = {name: at for at, name in enumerate(event.destinations)}
        elif isinstance(event, Copied):
            self._copies.append(
                (self._sources[event.source], self._destinations[event.destination])
            )
            if len(self._copies) >= _TOLD_AT_ONCE:
                self._worker.log_event(self._name, (self._number, self._copies))
                self._copies = []


def _digest(piece: bytes) -> str:
    return sha256(piece).hexdigest()[:16]
