"""Runs one transfer or execution, with the journal of a transfer."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from aiohaul.progress import OnProgress
from aiohaul.report import SingleReport
from aiohaul.s3.journal import Journal
from aiohaul.session import Session
from aiohaul.tasks.definition import Task, Transfer
from aiohaul.tasks.execution import OnCancelled, run_execution
from aiohaul.tasks.limiter import Slot
from aiohaul.tasks.resume import definition_identity
from aiohaul.tasks.transfer import run_transfer


async def run_single(
    task: Task,
    definition: Mapping[str, object],
    session: Session,
    on_progress: OnProgress,
    *,
    journal: Path | None,
    slot: Slot | None = None,
    on_cancelled: OnCancelled | None = None,
) -> SingleReport:
    """Run a transfer or an execution.

    Args:
        task: the transfer or execution.
        definition: the definition of the task, which identifies a transfer in the journal.
        session: the Session to use.
        on_progress: called with every event.
        journal: the path of the journal; None for no journal.
        slot: a context manager that waits for a permit. A transfer enters it after the wait for
            files; None if the task needs no permit. With ``slot``, the journal is closed during the
            wait for files, because thousands of waits would need too many file descriptors.
        on_cancelled: called with the report of an execution that was cancelled, if there is one.

    Raises:
        HaulError: the transfer or execution failed.
    """
    if not isinstance(task, Transfer):
        return await run_execution(task, session, on_cancelled)
    if journal is None:
        return await run_transfer(task, session, on_progress, slot=slot)
    open_journal = partial(Journal, journal, definition_identity(definition))
    if slot is not None:
        return await run_transfer(task, session, on_progress, open_journal, slot)
    async with open_journal() as opened:
        return await run_transfer(task, session, on_progress, lambda: nullcontext(opened))
