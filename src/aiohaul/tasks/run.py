"""The one door: run any task definition."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from aiohaul.errors import DefinitionError
from aiohaul.progress import OnProgress, ignore
from aiohaul.report import Report
from aiohaul.s3.objects import uri
from aiohaul.s3.resuming.journal import Journal, Place
from aiohaul.session import Session
from aiohaul.tasks.definition import Transfer, parse
from aiohaul.tasks.execution import run_execution
from aiohaul.tasks.resume import identity
from aiohaul.tasks.transfer import run_transfer
from aiohaul.telemetry.runs import running


async def run(
    definition: Mapping[str, Any],
    *,
    session: Session | None = None,
    on_progress: OnProgress | None = None,
    journal: Path | None = None,
    run_id: str | None = None,
) -> Report:
    """Carry out a task definition.

    AWS: for a transfer ListObjectsV2, CopyObject (or GetObject with PutObject or a multipart
    upload) and DeleteObjects; for an execution PutObject (S3), Invoke (Lambda), or RunTask,
    DescribeTasks and StopTask (Fargate).

    Args:
        definition: a transfer or an execution, as Open Task Framework writes them.
        session: whose connections to use; None makes a Session for this one task.
        on_progress: told of everything that happens; called on the event loop.
        journal: a file in which a transfer writes down what it has done. The same definition run
            again with it, after a crash, a kill, a cancellation or a failure, copies only what is
            missing. It may serve many definitions.
        run_id: what tells the log lines, spans and report of this run from others; None makes one.

    Returns:
        What was done.

    Raises:
        DefinitionError: the definition is wrong; no request was made.
        NothingFoundError: nothing matched; of a watch, WatchTimeoutError.
        JournalBusyError: the same definition is being run elsewhere with this journal.
        JournalError: the journal cannot be used.
        PlanError: two writes would collide, or a name cannot be taken; nothing was copied.
        TransferError: something is not where it should be; carries the report.
        FunctionError: a Lambda function ran and failed.
        OutcomeUnknownError: a Lambda function was called, and whether it ran is not known.
        TaskError: a Fargate task was not started, failed, or was not done in time.
        SettingsError: there are no credentials, or no region.
        ServiceError: AWS, or the way to it, refused or failed a request.
    """
    task = parse(definition)
    async with AsyncExitStack() as stack:
        stack.enter_context(running(str(definition["type"]), run_id))
        if session is None:
            session = await stack.enter_async_context(Session())
        if isinstance(task, Transfer):
            opened = None
            if journal is not None:
                opened = await stack.enter_async_context(Journal(journal, identity(definition)))
            return await run_transfer(task, session, on_progress or ignore, opened)
        return await run_execution(task, session)


def validate(definition: Mapping[str, Any]) -> None:
    """Check a task definition as a whole, without touching the network.

    Args:
        definition: a transfer or an execution.

    Raises:
        DefinitionError: something in it is wrong: where in the JSON, and what was expected.
        UnsupportedError: it is right, but for another tool to run.
    """
    parse(definition)


async def clean(
    definition: Mapping[str, Any],
    *,
    journal: Path,
    session: Session | None = None,
    abort: bool = True,
) -> list[str]:
    """Abort the uploads, and remove the partial files, that interrupted runs of a transfer left.

    Only what the journal knows is touched, and nothing of a run that is under way.

    AWS: AbortMultipartUpload, ListMultipartUploads, ListParts.

    Args:
        definition: the transfer.
        journal: the file that its runs wrote.
        session: whose connections to use; None makes a Session for this.
        abort: False only looks into the journal.

    Returns:
        What was left, and (with ``abort``) is not any more: the keys, and the names of files, that
        were being written. What cannot be cleaned is logged.

    Raises:
        DefinitionError: the definition is wrong, or no transfer.
        JournalBusyError: the transfer is under way.
        JournalError: the journal cannot be used.
    """
    task = parse(definition)
    if not isinstance(task, Transfer):
        raise DefinitionError("type", "only transfers leave something to clean")
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(Journal(journal, identity(definition)))
        left = list(opened.opened.values())
        if left and abort:
            if session is None:
                session = await stack.enter_async_context(Session())
            left = list(await session.s3(task.source.settings).clean(task.destinations, opened))
    return [_name(each.target) for each in left]


def _name(place: Place) -> str:
    endpoint, bucket, key = place
    return uri(bucket, key) if endpoint else str(Path(bucket, key))
