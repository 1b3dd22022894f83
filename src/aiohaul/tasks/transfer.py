"""Runs one transfer: waits for files, selects, copies, writes flags, runs the post-copy action."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import anyio

from aiohaul.errors import NothingFoundError, TransferError
from aiohaul.polling import poll_until
from aiohaul.progress import OnProgress
from aiohaul.report import TransferReport, transfer_summary
from aiohaul.s3.compact import total_size
from aiohaul.s3.copying.actions import apply_to_files
from aiohaul.s3.copying.plan import Listed
from aiohaul.s3.handler import S3Handler, transfers_of
from aiohaul.s3.journal import Journal
from aiohaul.s3.local import LocalFile, list_files
from aiohaul.s3.objects import S3Object, uri
from aiohaul.s3.selection import Conditions
from aiohaul.session import Session
from aiohaul.tasks.definition import FileWatch, Transfer, TransferSource
from aiohaul.tasks.limiter import Slot
from aiohaul.tasks.resume import finish_action, is_action_pending, journal_entries

#: Returns a context manager that opens the journal of a transfer; it yields None without a journal.
OpenJournal = Callable[[], AbstractAsyncContextManager[Journal | None]]


async def run_transfer(
    transfer: Transfer,
    session: Session,
    on_progress: OnProgress,
    open_journal: OpenJournal = nullcontext,
    slot: Slot | None = None,
) -> TransferReport:
    """Run a transfer.

    The post-copy action runs only if every destination is complete. After a partial failure, all
    sources still exist, and the transfer can be run again. With a journal, the post-copy action of
    an interrupted run is finished first.

    Args:
        transfer: the transfer.
        session: the Session to use.
        on_progress: called with every event.
        open_journal: opens the journal. The journal is closed while the transfer waits for files.
        slot: a context manager that waits for a permit, entered for all steps except the wait for
            files; None if the transfer needs no permit.

    Returns:
        The report of a transfer that succeeded.

    Raises:
        NothingFoundError: no source matched, and the source has ``"error": true``, the default.
            WatchTimeoutError if the file watch timed out.
        TransferError: a copy, a flag or the post-copy action failed. The error has the report.
        PlanError: two writes would collide. Nothing was copied.
        ServiceError: the source cannot be listed.
    """
    start = anyio.current_time()
    source = transfer.source
    s3 = session.s3(source.settings, source.options)
    slot = slot or nullcontext
    finished = None
    async with open_journal() as journal:
        if journal is not None and is_action_pending(source, journal):
            async with slot():
                finished = await finish_action(source, transfers_of(s3), journal, on_progress)
    if finished is not None and not finished.ok:
        raise TransferError(transfer_summary(finished), finished)
    async with AsyncExitStack() as stack:
        try:
            found = await _wait_for_files(source, s3, on_progress)
            if not transfer.only_looks:
                await stack.enter_async_context(slot())
            if found is None:
                found = await _find_sources(source, s3)
        except NothingFoundError:
            await _clean(transfer, s3, open_journal)
            if finished is None and source.fail_if_empty:
                raise
            empty = finished or TransferReport(found=0, size=0)
            return replace(empty, seconds=_elapsed(start))
        journal = await stack.enter_async_context(open_journal())
        report = await _copy_and_act(transfer, s3, found, on_progress, journal)
        report = replace(report, seconds=_elapsed(start))
        if not report.ok:
            raise TransferError(transfer_summary(report), report)
        if journal is not None:
            await journal.done()
    return report


async def _copy_and_act(
    transfer: Transfer,
    s3: S3Handler,
    found: Sequence[Listed],
    on_progress: OnProgress,
    journal: Journal | None,
) -> TransferReport:
    """Copy the sources, then run the post-copy action."""
    source = transfer.source
    if source.file_watch is not None and source.file_watch.watch_only:
        return _found_report(found)
    transfers = transfers_of(s3)
    reports = await transfers.copy_all(
        found,
        transfer.destinations,
        action=source.action,
        on_progress=on_progress,
        journal=journal,
    )
    report = replace(_found_report(found), destinations=reports)
    if source.action is None or not report.ok:
        return report
    if journal is not None:
        await journal.act(journal_entries(found))
    if source.bucket is None:
        action = await apply_to_files(
            cast("Sequence[LocalFile]", found), source.action, on_progress
        )
    else:
        action = await transfers.act(
            cast("Sequence[S3Object]", found),
            source.action,
            on_progress=on_progress,
            journal=journal,
        )
    return replace(report, action=action)


def _found_report(found: Sequence[Listed]) -> TransferReport:
    return TransferReport(found=len(found), size=total_size(found))


async def select_sources(
    source: TransferSource, s3: S3Handler, on_progress: OnProgress
) -> Sequence[Listed]:
    """Wait for files if there is a file watch, then find the sources.

    Raises:
        NothingFoundError: no source matched. WatchTimeoutError if the file watch timed out.
        ServiceError: the source cannot be listed.
    """
    found = await _wait_for_files(source, s3, on_progress)
    return found if found is not None else await _find_sources(source, s3)


async def _wait_for_files(
    source: TransferSource, s3: S3Handler, on_progress: OnProgress
) -> Sequence[Listed] | None:
    """Wait for the files of the file watch, if there is one.

    Returns:
        The files of a watch with ``watch_only``, which are the sources; None for other watches.
    """
    if source.file_watch is None:
        return None
    found = await _watch(source, source.file_watch, s3, on_progress)
    return found if source.file_watch.watch_only else None


async def _find_sources(source: TransferSource, s3: S3Handler) -> Sequence[Listed]:
    found = await _find(source, s3, None)
    if not found:
        raise NothingFoundError(f"no file or object matches in {_location(source)}")
    if source.conditions is None:
        return found
    selected = source.conditions.apply(found, datetime.now(UTC))
    if not selected:
        raise NothingFoundError(
            f"{len(found)} files or objects match in {_location(source)}, but they do not meet the"
            " conditions on size, age and count"
        )
    return selected


async def _clean(transfer: Transfer, s3: S3Handler, open_journal: OpenJournal) -> None:
    """Clean up the incomplete writes of earlier runs, because their sources no longer exist."""
    async with open_journal() as journal:
        if journal is not None:
            await transfers_of(s3).clean(transfer.destinations, journal, transfer.source.action)


async def _watch(
    source: TransferSource, watch: FileWatch, s3: S3Handler, on_progress: OnProgress
) -> Sequence[Listed]:
    """Wait for the files of a file watch, whose directory may differ from the source's."""
    during = source.conditions if source.conditions and source.conditions.during_watch else None
    if source.bucket is not None:
        return await s3.wait_for(
            source.bucket,
            watch.directory,
            watch.pattern,
            timeout=watch.timeout,
            interval=watch.interval,
            conditions=during,
            recursive=source.recursive,
            on_progress=on_progress,
        )
    watched = replace(source, directory=watch.directory, pattern=watch.pattern)

    async def poll() -> Sequence[Listed] | None:
        return await _find(watched, s3, during) or None

    return await poll_until(
        poll,
        where=_location(watched),
        timeout=watch.timeout,
        interval=watch.interval,
        on_progress=on_progress,
    )


async def _find(
    source: TransferSource, s3: S3Handler, conditions: Conditions | None
) -> Sequence[Listed]:
    if source.bucket is not None:
        return await s3.find(
            source.bucket,
            source.directory,
            source.pattern,
            conditions=conditions,
            recursive=source.recursive,
        )
    files = await list_files(
        source.directory,
        source.pattern,
        follow_links=source.follow_links,
        recursive=source.recursive,
    )
    return conditions.apply(files, datetime.now(UTC)) if conditions else files


def _location(source: TransferSource) -> str:
    directory = uri(source.bucket, source.directory) if source.bucket else source.directory
    ignored = sorted(source.options.ignore_storage_classes) if source.options else []
    outside = f", not in {', '.join(ignored)}" if ignored else ""
    return f"{directory} (names like {source.pattern.pattern}{outside})"


def _elapsed(start: float) -> float:
    return round(anyio.current_time() - start, 3)
