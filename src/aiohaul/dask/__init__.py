"""Runs large transfers on the workers of a Dask cluster. Install ``aiohaul[dask]``.

The coordinator is the process that awaits :func:`run`. It lists the source, and divides the objects
into shards: a shard is a group of objects that one worker copies. Each worker has one Session on
its own event loop during the run. When every shard is complete and verified, the coordinator
writes the flags, and runs the post-copy action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import anyio

from aiohaul.cancellation import in_own_task
from aiohaul.dask.cluster import ClusterTransfer
from aiohaul.dask.shards import ShardResults
from aiohaul.dask.worker import parse_shardable
from aiohaul.errors import HaulError, NothingFoundError, SettingsError, TransferError
from aiohaul.progress import Failed, FlagWritten, Found, OnProgress
from aiohaul.report import DestinationReport, Failure, TransferReport, transfer_summary
from aiohaul.s3.copying.plan import Destination
from aiohaul.s3.objects import S3Object, uri
from aiohaul.session import Session
from aiohaul.tasks.transfer import select_sources
from aiohaul.user_code import guarded

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["run"]


@in_own_task
async def run(
    definition: Mapping[str, object],
    *,
    client: Client,
    shards: int | None = None,
    journals: Path | None = None,
    session: Session | None = None,
    on_progress: OnProgress | None = None,
) -> TransferReport:
    """Run a transfer between buckets on the workers of a Dask cluster.

    All workers together have at most as many requests in flight as one Session. If a worker dies,
    another worker copies its shard again. Copies read the version that was listed, so the second
    copy of an object has the same bytes. Each object is reported once. Cancelling this call ends
    the copies on every worker.

    Dask sends the definition to the workers. If the definition contains credentials, use TLS for
    Dask's connections, or let each worker find its own credentials.

    AWS: as for :func:`aiohaul.run`.

    Args:
        definition: a transfer from S3 to S3.
        client: an asynchronous ``distributed.Client`` of this event loop.
        shards: number of shards; None makes four for each worker.
        journals: a directory that all workers share. If a worker dies, the next worker of its
            shard reads the journal there, copies only the missing objects, and resumes or aborts
            multipart uploads. With None the multipart uploads of a killed worker stay open.
        session: the Session of the coordinator; None makes a Session for this call.
        on_progress: called on this event loop with the events of every object.

    Returns:
        One report for all shards.

    Raises:
        DefinitionError: the definition is wrong, or cannot run on a cluster (UnsupportedError).
        SettingsError: there are no workers, or a worker cannot run aiohaul.
        NothingFoundError: no object matched.
        PlanError: two writes have the same target. No object was copied.
        TransferError: a copy, a flag or the post-copy action failed. The error has the report.
        ServiceError: listing the source failed.
    """
    task, destinations = parse_shardable(definition)
    if not client.asynchronous:
        raise SettingsError(
            "starting the transfer on Dask failed: the client must be asynchronous. Use"
            " Client(…, asynchronous=True)"
        )
    start = anyio.current_time()
    notify = guarded("on_progress", on_progress)
    async with AsyncExitStack() as stack:
        if session is None:
            session = await stack.enter_async_context(Session())
        s3 = session.s3(task.source.settings, task.source.options)
        try:
            found = cast("Sequence[S3Object]", await select_sources(task.source, s3, notify))
        except NothingFoundError:
            if task.source.fail_if_empty:
                raise
            found = ()
        report = TransferReport(found=len(found), size=sum(each.size for each in found))
        if found and not (task.source.file_watch is not None and task.source.file_watch.watch_only):
            names = await s3.check(found, destinations, task.source.action)
            notify(Found(report.found, report.size, names))
            cluster = ClusterTransfer(client, definition, journals)
            results = ShardResults(destinations, names, notify)
            await cluster.copy(found, shards, results, report_progress=on_progress is not None)
            report = replace(report, destinations=results.reports(anyio.current_time() - start))
            report = replace(
                report, destinations=await _write_flags(report, destinations, session, notify)
            )
            if task.source.action is not None and report.ok:
                action = await s3.act(found, task.source.action, on_progress=notify)
                report = replace(report, action=action)
    report = replace(report, seconds=round(anyio.current_time() - start, 3))
    if not report.ok:
        raise TransferError(transfer_summary(report), report)
    return report


async def _write_flags(
    report: TransferReport,
    destinations: Sequence[Destination],
    session: Session,
    notify: OnProgress,
) -> tuple[DestinationReport, ...]:
    """Write the flag of each complete destination, and return the reports with the results.

    A flag that several destinations share is written if all of them are complete.
    """
    pairs = list(zip(report.destinations, destinations, strict=True))
    incomplete = {_flag_location(destination) for each, destination in pairs if not each.ok}
    reports = []
    for each, destination in pairs:
        reports.append(each)
        if destination.flag is None or _flag_location(destination) in incomplete:
            continue
        target = uri(destination.bucket, destination.flag)
        try:
            await session.s3(destination.settings).touch(
                destination.bucket, destination.flag, options=destination.flag_options
            )
        except HaulError as error:
            reports[-1] = replace(each, failures=(Failure.of(target, error),))
            notify(Failed(target, each.destination, error))
        else:
            reports[-1] = replace(each, flag=target)
            notify(FlagWritten(target, each.destination))
    return tuple(reports)


def _flag_location(destination: Destination) -> tuple[str | None, str, str | None]:
    endpoint = destination.settings.endpoint_url if destination.settings is not None else None
    return endpoint, destination.bucket, destination.flag
