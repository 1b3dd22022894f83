"""Transfers that outgrow one event loop: cut into shards, and run on a Dask cluster.

The coordinator, where :func:`run` is awaited, lists the source once, plans once, and cuts the plan
into shards. Each worker has one Session on its own event loop for as long as the run lasts, and
copies one shard after the other. Flags and the post-copy action are the coordinator's, once it
knows that every shard of a destination is there and verified. Needs the extra ``dask``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from aiohaul.cancellation import in_own_task
from aiohaul.dask.cluster import Cluster
from aiohaul.dask.shards import Ledger
from aiohaul.dask.worker import divisible
from aiohaul.errors import HaulError, NothingFoundError, SettingsError, TransferError
from aiohaul.progress import Failed, Flagged, Found, OnProgress
from aiohaul.report import DestinationReport, Failure, TransferReport, summary
from aiohaul.s3.copying.plan import Destination
from aiohaul.s3.objects import uri
from aiohaul.session import Session
from aiohaul.tasks.transfer import settle
from aiohaul.user_code import guarded

__all__ = ["run"]


@in_own_task
async def run(
    definition: Mapping[str, Any],
    *,
    client: Any,
    shards: int | None = None,
    journals: Path | None = None,
    session: Session | None = None,
    on_progress: OnProgress | None = None,
) -> TransferReport:
    """Carry out a transfer between buckets on the workers of a Dask cluster.

    The requests in flight that one Session may have are divided among the workers. A worker that
    dies loses its shard to another one, which copies it anew: the versions are pinned, so what was
    there already is written once more with the same bytes, and told of once. Cancelling ends the
    copies on every worker.

    The definition goes to the workers as it is, through Dask's connections: where it holds
    credentials, use TLS between them, or leave the credentials to each worker's own chain.

    AWS: as for :func:`aiohaul.run`.

    Args:
        definition: a transfer from S3 to S3.
        client: an asynchronous ``distributed.Client`` of this event loop.
        shards: how many to cut the plan into; None is four for each worker.
        journals: a directory that all workers see. With it, a shard that is taken over copies only
            what is missing, and goes on with uploads or aborts them; without it, what a killed
            worker had begun of an object of several parts stays open.
        session: whose connections the coordinator uses; None makes a Session for this.
        on_progress: told of every object, on this event loop.

    Returns:
        What was done, of all shards together.

    Raises:
        DefinitionError: the definition is wrong, or not for a cluster (UnsupportedError).
        SettingsError: there are no workers, or one of them cannot take part.
        NothingFoundError: nothing matched.
        PlanError: two writes would collide; nothing was copied.
        TransferError: something is not where it should be; carries the report.
        ServiceError: the source cannot be listed.
    """
    task, destinations = divisible(definition)
    if not client.asynchronous:
        raise SettingsError("the client must be one of this loop: Client(…, asynchronous=True)")
    start = anyio.current_time()
    tell = guarded("on_progress", on_progress)
    async with AsyncExitStack() as stack:
        if session is None:
            session = await stack.enter_async_context(Session())
        s3 = session.s3(task.source.settings)
        try:
            found: Sequence[Any] = await settle(task.source, s3, tell)
        except NothingFoundError:
            if task.source.nothing_is_an_error:
                raise
            found = ()
        report = TransferReport(found=len(found), size=sum(each.size for each in found))
        if found and not (task.source.watch is not None and task.source.watch.only):
            names = await s3.check(found, destinations, task.source.action)
            tell(Found(report.found, report.size, names))
            work = Cluster(client, definition, journals)
            ledger = Ledger(destinations, names, tell)
            await work.copy(found, shards, ledger, telling=on_progress is not None)
            report = replace(report, destinations=ledger.reports(anyio.current_time() - start))
            report = replace(
                report, destinations=await _flagged(report, destinations, session, tell)
            )
            if task.source.action is not None and report.ok:
                done = await s3.act(
                    found,
                    task.source.action,
                    bucket_owner_full_control=task.source.bucket_owner_full_control,
                    on_progress=tell,
                )
                report = replace(report, action=done)
    report = replace(report, seconds=round(anyio.current_time() - start, 3))
    if not report.ok:
        raise TransferError(summary(report), report)
    return report


async def _flagged(
    report: TransferReport,
    destinations: Sequence[Destination],
    session: Session,
    tell: OnProgress,
) -> tuple[DestinationReport, ...]:
    """Write the flags of the destinations that have everything; a shared one if all of them do."""
    sides = list(zip(report.destinations, destinations, strict=True))
    incomplete = {_flag_place(destination) for each, destination in sides if not each.ok}
    made = []
    for each, destination in sides:
        made.append(each)
        if destination.flag is None or _flag_place(destination) in incomplete:
            continue
        target = uri(destination.bucket, destination.flag)
        try:
            await session.s3(destination.settings).touch(
                destination.bucket,
                destination.flag,
                bucket_owner_full_control=destination.bucket_owner_full_control,
            )
        except HaulError as error:
            made[-1] = replace(each, failures=(Failure.of(target, error),))
            tell(Failed(target, each.destination, error))
        else:
            made[-1] = replace(each, flag=target)
            tell(Flagged(target, each.destination))
    return tuple(made)


def _flag_place(destination: Destination) -> tuple[str | None, str, str | None]:
    endpoint = destination.settings.endpoint_url if destination.settings is not None else None
    return endpoint, destination.bucket, destination.flag
