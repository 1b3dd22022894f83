"""Sends the shards of one transfer to the workers of a Dask cluster. The coordinator uses it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias, cast
from uuid import uuid4

import anyio
from distributed import Client, Future, as_completed

from aiohaul.dask.shards import ShardResults, pack_objects
from aiohaul.dask.worker import ShardRunner, run_shard
from aiohaul.errors import SettingsError
from aiohaul.report import DestinationReport
from aiohaul.s3.objects import S3Object, batches
from aiohaul.session import MAX_REQUESTS

#: Default number of shards for each worker. With several shards a worker that dies loses the work
#: of one shard only.
_SHARDS_PER_WORKER = 4
#: Seconds in which the workers must cancel their shards.
_CLEANUP_TIMEOUT = 5.0

#: The result of a shard, with one report for each destination.
_Reports: TypeAlias = "Sequence[DestinationReport]"

_log = logging.getLogger(__name__)


class ClusterTransfer:
    """Runs the shards of one transfer on the workers of a Dask cluster.

    Args:
        client: an asynchronous client of the cluster.
        definition: the definition of the transfer.
        journals: the directory for the journals of the shards, or None.
    """

    def __init__(
        self, client: Client, definition: Mapping[str, object], journals: Path | None
    ) -> None:
        self._client = client
        self._definition = definition
        self._journals = journals
        self._name = f"aiohaul-{uuid4().hex}"

    async def copy(
        self,
        found: Sequence[S3Object],
        shards: int | None,
        results: ShardResults,
        *,
        report_progress: bool,
    ) -> None:
        """Copy objects on the workers, and record the results.

        Args:
            found: the objects.
            shards: number of shards; None makes four for each worker.
            results: records the result of each shard.
            report_progress: True also records each copy as soon as a worker reports it.

        Raises:
            SettingsError: the cluster has no workers, or a worker cannot run aiohaul.
        """
        workers = len(await self._client.nthreads())
        if not workers:
            raise SettingsError(
                "starting the transfer on Dask failed: the cluster has 0 workers. Start workers,"
                " then run again"
            )
        plugin = ShardRunner(
            self._definition,
            max(MAX_REQUESTS // workers, 1),
            self._journals,
            report_progress=report_progress,
        )
        size = -(-len(found) // max(shards or workers * _SHARDS_PER_WORKER, 1))
        shard_objects = batches(found, size)
        # Dask awaits the coroutine in the worker, so the result is not a coroutine.
        run = cast("Callable[..., _Reports]", run_shard)
        futures: dict[Future[_Reports], int] = {}
        try:
            await self._register(plugin)
            if report_progress:
                self._client.subscribe_topic(self._name, results.on_worker_event)
            for number, objects in enumerate(shard_objects):
                results.record_start(number, objects)
                key = f"{self._name}-{number}"
                task = (self._name, number, pack_objects(objects))
                futures[self._client.submit(run, *task, key=key, pure=False)] = number
            async for future in as_completed(list(futures)):
                await self._record_result(future, futures[future], results)
        finally:
            with anyio.move_on_after(_CLEANUP_TIMEOUT, shield=True) as deadline:
                await self._cancel_everything(list(futures), report_progress=report_progress)
            if deadline.cancelled_caught:
                _log.warning(
                    "the workers of the cluster did not confirm within %g s that they cancelled"
                    " their shards: copies may still run there",
                    _CLEANUP_TIMEOUT,
                )

    async def _register(self, plugin: ShardRunner) -> None:
        try:
            await self._client.register_plugin(plugin, name=self._name)
        except Exception as error:  # any error of a worker
            problem = (
                f"starting aiohaul on a worker of the cluster failed: {error}. Install the same"
                " version of aiohaul[dask] on every worker"
            )
            raise SettingsError(problem) from error

    async def _record_result(
        self, future: Future[_Reports], number: int, results: ShardResults
    ) -> None:
        if future.status == "finished":
            results.record_end(number, await future)
            return
        error = await future.exception() if future.status == "error" else None
        results.record_lost(number, error or ConnectionError("Dask cancelled or lost the shard"))

    async def _cancel_everything(
        self, futures: Sequence[Future[_Reports]], *, report_progress: bool
    ) -> None:
        """Cancel all shards, and remove the plugin from the workers."""
        # Errors are ignored, because the scheduler or the connection to it may have failed.
        with suppress(Exception):
            if report_progress:
                self._client.unsubscribe_topic(self._name)
            await self._client.cancel(futures, force=True)
        with suppress(Exception):
            await self._client.unregister_worker_plugin(self._name)
