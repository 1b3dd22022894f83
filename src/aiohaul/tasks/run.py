"""Runs and validates task definitions of any type, and cleans up after interrupted transfers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from aiohaul.cancellation import in_own_task
from aiohaul.errors import DefinitionError, SettingsError
from aiohaul.progress import OnProgress
from aiohaul.report import Report
from aiohaul.s3.handler import transfers_of
from aiohaul.s3.journal import Journal, Location
from aiohaul.s3.objects import uri
from aiohaul.session import Session
from aiohaul.tasks.batch import run_batch
from aiohaul.tasks.batch_definition import Batch, is_batch, parse_any
from aiohaul.tasks.batch_state import STATE_AGE, BatchState
from aiohaul.tasks.definition import Transfer, parse
from aiohaul.tasks.definition_source import Tasks
from aiohaul.tasks.execution import OnCancelled
from aiohaul.tasks.limiter import DEFAULT_MAX_CONCURRENCY
from aiohaul.tasks.resume import definition_identity
from aiohaul.tasks.single import run_single
from aiohaul.telemetry.runs import traced_run
from aiohaul.threads import run_in_thread
from aiohaul.user_code import guarded, user_code


@in_own_task
async def run(
    definition: Mapping[str, object],
    *,
    session: Session | None = None,
    tasks: Tasks | None = None,
    on_progress: OnProgress | None = None,
    journal: Path | None = None,
    state: Path | None = None,
    state_age: float = STATE_AGE,
    max_concurrency: int | None = None,
    run_id: str | None = None,
    on_cancelled: OnCancelled | None = None,
) -> Report:
    """Run a task definition, which is a transfer, an execution or a batch.

    AWS: for a transfer ListObjectsV2, CopyObject (or GetObject with PutObject or a multipart
    upload) and DeleteObjects; for an execution PutObject (S3), Invoke (Lambda), or RunTask,
    DescribeTasks and StopTask (Fargate).

    Args:
        definition: a transfer, an execution or a batch, as for Open Task Framework.
        session: the Session to use. None creates a Session for this run, which all tasks of a batch
            share.
        tasks: the definitions of a batch's tasks: a mapping by task_id, or a folder that contains
            a file ``{task_id}.json`` for each task, at any depth.
        on_progress: called on the event loop with every event.
        journal: a file in which a transfer records its progress. If the same definition runs again
            with this file, after a crash, a kill, a cancellation or a failure, only the missing
            copies are made. Many definitions, and the transfers of a batch, may share one journal.
        state: a file in which a batch records which of its tasks have succeeded. If the same batch
            runs again with this file, after a crash, a kill, a cancellation or a failure, only the
            other tasks and those with ``retry_on_rerun`` run. After all tasks have succeeded, the
            next run starts from the beginning. Many batches may share one state file.
        state_age: the maximum seconds since the start of a batch (20 hours by default) to resume
            the batch. An older batch starts from the beginning, and a warning is logged.
            ``math.inf`` sets no limit.
        max_concurrency: the maximum number of transfers and executions of a batch, including those
            of inner batches, that run concurrently; None for 256. The others are queued, and their
            timeouts do not run. A transfer does not count while it waits for files.
        run_id: the id of the run in log lines, spans and the report; None creates an id.
        on_cancelled: called with the report of a Fargate task that was stopped because this call
            was cancelled, with the last lines of its log. Of other executions nothing is known.
            For a batch, ``on_progress`` gets the reports of all its tasks.

    Returns:
        The report of the transfer, execution or batch.

    Raises:
        DefinitionError: the definition, or the definition of a task of the batch, is wrong. No
            request was sent.
        BatchError: a task of the batch failed, timed out or was skipped. The error has the report.
        BatchBusyError: another run of the same batch is using this state file.
        BatchStateError: the state file cannot be used.
        NothingFoundError: no file or object matched. WatchTimeoutError if a file watch timed out.
        JournalBusyError: another run of the same definition is using this journal.
        JournalError: the journal cannot be used.
        PlanError: two writes would collide, or a name is invalid. Nothing was copied.
        TransferError: a copy, a flag or the post-copy action failed. The error has the report.
        FunctionError: a Lambda function ran and failed.
        OutcomeUnknownError: a Lambda function was invoked, and it is not known whether it ran.
        FargateTaskError: a Fargate task did not start, failed or timed out.
        SettingsError: credentials or region are missing, ``max_concurrency`` is less than 1, or
            ``state_age`` is not positive.
        ServiceError: AWS refused a request, or a request failed.
    """
    if max_concurrency is not None and max_concurrency < 1:
        raise SettingsError(f"max_concurrency must be at least 1, not {max_concurrency}")
    if not state_age > 0:  # nor is NaN
        raise SettingsError(f"state_age must be a positive number of seconds, not {state_age}")
    with user_code("reading the definition"):
        # In a thread, because a batch reads files, and may have thousands of definitions to check.
        others = tasks or {} if is_batch(definition) else None
        task = await run_in_thread(parse_any, definition, others, abandon_on_cancel=True)
    if not isinstance(task, Batch):
        if state is not None:
            raise DefinitionError(
                "type", "only a batch has a state file. Use journal instead of state"
            )
        if max_concurrency is not None:
            raise DefinitionError(
                "type", "max_concurrency is only for batches. Remove max_concurrency"
            )
    async with AsyncExitStack() as stack:
        stack.enter_context(traced_run(str(definition["type"]), run_id))
        batch_state = None
        if isinstance(task, Batch) and state is not None:
            batch_state = await stack.enter_async_context(BatchState(state, task, state_age))
        if session is None:
            session = await stack.enter_async_context(Session())
        notify = guarded("on_progress", on_progress)
        if isinstance(task, Batch):
            return await run_batch(
                task,
                session,
                notify,
                journal=journal,
                state=batch_state,
                max_concurrency=max_concurrency or DEFAULT_MAX_CONCURRENCY,
            )
        return await run_single(
            task, definition, session, notify, journal=journal, on_cancelled=on_cancelled
        )


def validate(definition: Mapping[str, object], *, tasks: Tasks | None = None) -> None:
    """Check a task definition without any request. Blocks while it reads files.

    Args:
        definition: a transfer, an execution or a batch.
        tasks: the definitions of a batch's tasks, as for :func:`run`; None checks only the graph.

    Raises:
        DefinitionError: the definition is wrong. The error has the path of the wrong value.
        UnsupportedError: the definition is valid, but only Open Task Framework can run it.
    """
    parse_any(definition, tasks)


@in_own_task
async def clean(
    definition: Mapping[str, object],
    *,
    journal: Path,
    session: Session | None = None,
    abort: bool = True,
) -> list[str]:
    """Abort the multipart uploads, and delete the partial files, of a transfer's interrupted runs.

    Only uploads and files in the journal are cleaned up. A running transfer raises an error.

    AWS: AbortMultipartUpload, ListMultipartUploads, ListParts.

    Args:
        definition: the transfer.
        journal: the journal of the transfer's runs.
        session: the Session to use; None creates a Session.
        abort: clean up. False only reads the journal.

    Returns:
        The URIs and paths of incomplete writes. If ``abort`` is True, only those that were cleaned
        up; a failure to clean up is logged.

    Raises:
        DefinitionError: the definition is wrong, or is not a transfer.
        JournalBusyError: the transfer is running.
        JournalError: the journal cannot be used.
    """
    if is_batch(definition):
        raise DefinitionError(
            "type", "a batch cannot be cleaned. Clean each transfer of the batch separately"
        )
    task = parse(definition)
    if not isinstance(task, Transfer):
        raise DefinitionError(
            "type", "an execution cannot be cleaned, because only transfers have journals"
        )
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(Journal(journal, definition_identity(definition)))
        incomplete = list(opened.opened.values())
        if incomplete and abort:
            if session is None:
                session = await stack.enter_async_context(Session())
            source = task.source
            transfers = transfers_of(session.s3(source.settings, source.options))
            incomplete = list(await transfers.clean(task.destinations, opened, source.action))
    return [_name(each.target) for each in incomplete]


def _name(location: Location) -> str:
    endpoint, bucket, key = location
    return uri(bucket, key) if endpoint else str(Path(bucket, key))
