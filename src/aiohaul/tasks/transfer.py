"""One transfer: find, select, plan, copy, flag, and the post-copy action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import anyio

from aiohaul.errors import NothingFoundError, TransferError
from aiohaul.looking import look_until_found
from aiohaul.progress import OnProgress
from aiohaul.report import TransferReport, summary
from aiohaul.s3.compact import size_of
from aiohaul.s3.copying.actions import act_on_files
from aiohaul.s3.copying.plan import Listed
from aiohaul.s3.handler import S3Handler
from aiohaul.s3.local import LocalFile, list_files
from aiohaul.s3.objects import S3Object, uri
from aiohaul.s3.resuming.journal import Journal
from aiohaul.s3.selection import Conditions
from aiohaul.session import Session
from aiohaul.tasks.definition import Transfer, TransferSource, Watch
from aiohaul.tasks.resume import finish_action, noted


async def run_transfer(
    transfer: Transfer, session: Session, on_progress: OnProgress, journal: Journal | None = None
) -> TransferReport:
    """Carry out a transfer.

    The post-copy action is done only if every destination has everything: a transfer that
    failed in part leaves every source where it is, so that it can be run again.

    With a journal, what a run that was interrupted left to do is done first.

    Raises:
        NothingFoundError: nothing matched, and that is an error; of a watch, WatchTimeoutError.
        TransferError: something failed; carries the report.
        PlanError: two writes would collide; nothing was copied.
        ServiceError: the source cannot be listed.
    """
    start = anyio.current_time()
    source = transfer.source
    s3 = session.s3(source.settings)
    finished = None
    if journal is not None:
        finished = await finish_action(source, s3, journal, on_progress)
        if finished is not None and not finished.ok:
            raise TransferError(summary(finished), finished)
    try:
        found = await settle(source, s3, on_progress)
    except NothingFoundError:
        if journal is not None:
            await s3.clean(transfer.destinations, journal)
        if finished is None and source.nothing_is_an_error:
            raise
        empty = finished or TransferReport(found=0, size=0)
        return replace(empty, seconds=_since(start))
    if source.watch is not None and source.watch.only:
        report = _found(found)
    else:
        report = await _haul(transfer, s3, found, on_progress, journal)
    report = replace(report, seconds=_since(start))
    if not report.ok:
        raise TransferError(summary(report), report)
    if journal is not None:
        await journal.done()
    return report


async def _haul(
    transfer: Transfer,
    s3: S3Handler,
    found: Sequence[Listed],
    on_progress: OnProgress,
    journal: Journal | None,
) -> TransferReport:
    """Copy what was found, and then do the post-copy action."""
    source = transfer.source
    reports = await s3.copy_all(
        found,
        transfer.destinations,
        action=source.action,
        on_progress=on_progress,
        journal=journal,
    )
    report = replace(_found(found), destinations=reports)
    if source.action is None or not report.ok:
        return report
    if journal is not None:
        await journal.act(noted(found))
    if source.bucket is None:
        action = await act_on_files(cast("Sequence[LocalFile]", found), source.action, on_progress)
    else:
        action = await s3.act(
            cast("Sequence[S3Object]", found),
            source.action,
            bucket_owner_full_control=source.bucket_owner_full_control,
            on_progress=on_progress,
            journal=journal,
        )
    return replace(report, action=action)


def _found(found: Sequence[Listed]) -> TransferReport:
    return TransferReport(found=len(found), size=size_of(found))


async def settle(
    source: TransferSource, s3: S3Handler, on_progress: OnProgress
) -> Sequence[Listed]:
    """Wait where there is a watch, then find what is meant."""
    if source.watch is not None:
        seen = await _watch(source, source.watch, s3, on_progress)
        if source.watch.only:
            return seen
    found = await _find(source, s3, None)
    if not found:
        raise NothingFoundError(f"nothing matches in {_where(source)}")
    if source.conditions is None:
        return found
    met = source.conditions.apply(found, datetime.now(UTC))
    if not met:
        raise NothingFoundError(
            f"{len(found)} match in {_where(source)}, but do not meet the conditions on size, age"
            " and count"
        )
    return met


async def _watch(
    source: TransferSource, watch: Watch, s3: S3Handler, on_progress: OnProgress
) -> Sequence[Listed]:
    """Wait for what the watch is for, which may be elsewhere than the source."""
    during = source.conditions if source.conditions and source.conditions.during_watch else None
    if source.bucket is not None:
        return await s3.wait_for(
            source.bucket,
            watch.directory,
            watch.pattern,
            timeout=watch.timeout,
            interval=watch.interval,
            conditions=during,
            on_progress=on_progress,
        )
    looked_at = replace(source, directory=watch.directory, pattern=watch.pattern)

    async def look() -> Sequence[Listed] | None:
        return await _find(looked_at, s3, during) or None

    return await look_until_found(
        look,
        where=_where(looked_at),
        timeout=watch.timeout,
        interval=watch.interval,
        on_progress=on_progress,
    )


async def _find(
    source: TransferSource, s3: S3Handler, conditions: Conditions | None
) -> Sequence[Listed]:
    if source.bucket is not None:
        return await s3.find(source.bucket, source.directory, source.pattern, conditions=conditions)
    files = await list_files(source.directory, source.pattern)
    return conditions.apply(files, datetime.now(UTC)) if conditions else files


def _where(source: TransferSource) -> str:
    place = uri(source.bucket, source.directory) if source.bucket else source.directory
    return f"{place} (names like {source.pattern.pattern})"


def _since(start: float) -> float:
    return round(anyio.current_time() - start, 3)
