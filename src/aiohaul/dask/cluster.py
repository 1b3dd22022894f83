"""One transfer on the workers of a cluster, as its coordinator sees it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
from distributed import as_completed

from aiohaul.dask.shards import Ledger, packed
from aiohaul.dask.worker import ShardRunner, haul_shard
from aiohaul.errors import SettingsError
from aiohaul.s3.objects import S3Object, batches
from aiohaul.session import MAX_REQUESTS

#: Shards for each worker, unless told otherwise: a worker that dies costs one of them.
_SHARDS_EACH = 4
#: Seconds that the workers may take to end what they do.
_END = 5.0

_log = logging.getLogger(__name__)


class Cluster:
    """One transfer on the workers of a cluster."""

    def __init__(self, client: Any, definition: Mapping[str, Any], journals: Path | None) -> None:
        self._client = client
        self._definition = definition
        self._journals = journals
        self._name = f"aiohaul-{uuid4().hex}"

    async def copy(
        self, found: Sequence[S3Object], shards: int | None, ledger: Ledger, *, telling: bool
    ) -> None:
        """Have everything copied; what became of it is in the ledger."""
        workers = len(await self._client.nthreads())
        if not workers:
            raise SettingsError("the cluster has no workers: start some, then run again")
        plugin = ShardRunner(
            self._definition, max(MAX_REQUESTS // workers, 1), self._journals, telling=telling
        )
        size = -(-len(found) // max(shards or workers * _SHARDS_EACH, 1))
        pieces = batches(found, size)
        futures: dict[Any, int] = {}
        try:
            await self._register(plugin)
            if telling:
                self._client.subscribe_topic(self._name, ledger.hear)
            for number, piece in enumerate(pieces):
                ledger.begin(number, piece)
                key = f"{self._name}-{number}"
                task = (self._name, number, packed(piece))
                futures[self._client.submit(haul_shard, *task, key=key, pure=False)] = number
            async for future in as_completed(list(futures)):
                await self._settle(future, futures[future], ledger)
        finally:
            with anyio.move_on_after(_END, shield=True) as deadline:
                await self._end(list(futures), telling=telling)
            if deadline.cancelled_caught:
                _log.warning("not every worker said within %g s that it has ended", _END)

    async def _register(self, plugin: ShardRunner) -> None:
        try:
            await self._client.register_plugin(plugin, name=self._name)
        except Exception as error:  # whatever a worker raised
            raise SettingsError(f"a worker of the cluster cannot take part: {error}") from error

    async def _settle(self, future: Any, number: int, ledger: Ledger) -> None:
        if future.status == "finished":
            ledger.end(number, await future)
            return
        error = await future.exception() if future.status == "error" else None
        ledger.lose(number, error or ConnectionError("the cluster has lost it"))

    async def _end(self, futures: Sequence[Any], *, telling: bool) -> None:
        """Leave nothing running. Whoever dies meanwhile runs nothing either."""
        # Of many kinds: the scheduler, or its connection, may be what failed.
        with suppress(Exception):
            if telling:
                self._client.unsubscribe_topic(self._name)
            await self._client.cancel(futures, force=True)
        with suppress(Exception):
            await self._client.unregister_worker_plugin(self._name)
