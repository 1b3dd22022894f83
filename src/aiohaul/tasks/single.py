"""One transfer or execution, as its definition says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohaul.progress import OnProgress
from aiohaul.report import SingleReport
from aiohaul.s3.resuming.journal import Journal
from aiohaul.session import Session
from aiohaul.tasks.definition import Task, Transfer
from aiohaul.tasks.execution import run_execution
from aiohaul.tasks.resume import identity
from aiohaul.tasks.transfer import run_transfer


async def run_single(
    task: Task,
    definition: Mapping[str, Any],
    session: Session,
    on_progress: OnProgress,
    journal: Path | None,
) -> SingleReport:
    """Carry out a transfer, with its journal if there is one, or an execution.

    Raises:
        HaulError: it failed.
    """
    if not isinstance(task, Transfer):
        return await run_execution(task, session)
    if journal is None:
        return await run_transfer(task, session, on_progress)
    async with Journal(journal, identity(definition)) as opened:
        return await run_transfer(task, session, on_progress, opened)
