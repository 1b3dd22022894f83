"""The one door: run any task definition."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from aiohaul.cancellation import in_own_task
from aiohaul.errors import DefinitionError, SettingsError
from aiohaul.progress import OnProgress
from aiohaul.report import Report
from aiohaul.s3.objects import uri
from aiohaul.s3.resuming.journal import Journal, Place
from aiohaul.session import Session
from aiohaul.tasks.batch import run_batch
from aiohaul.tasks.batch_state import STATE_AGE, BatchState
from aiohaul.tasks.batches import Batch, is_batch, parse_any
from aiohaul.tasks.definition import Transfer, parse
from aiohaul.tasks.library import Tasks
from aiohaul.tasks.resume import identity
from aiohaul.tasks.single import run_single
from aiohaul.tasks.turns import AT_ONCE
from aiohaul.telemetry.runs import running
from aiohaul.threads import run_in_thread
from aiohaul.user_code import guarded, user_code


@in_own_task
async def run(
    definition: Mapping[str, Any],
    *,
    session: Session | None = None,
    tasks: Tasks | None = None,
    on_progress: OnProgress | None = None,
    journal: Path | None = None,
    state: Path | None = None,
    state_age: float = STATE_AGE,
    at_once: int | None = None,
    run_id: str | None = None,
) -> Report:
    """Carry out a task definition.

    AWS: for a transfer ListObjectsV2, CopyObject (or GetObject with PutObject or a multipart
    upload) and DeleteObjects; for an execution PutObject (S3), Invoke (Lambda), or RunTask,
    DescribeTasks and StopTask (Fargate).

    Args:
        definition: a transfer, an execution or a batch, as Open Task Framework writes them.
        session: whose connections to use; None makes a Session for this one task, or for all
            tasks of this batch.
        tasks: where the tasks of a batch are: their definitions by task_id, or a folder that has
            them as ``{task_id}.json``, at any depth.
        on_progress: told of everything that happens; called on the event loop.
        journal: a file in which a transfer writes down what it has done. The same definition run
            again with it, after a crash, a kill, a cancellation or a failure, copies only what is
            missing. It may serve many definitions, and those of a batch.
        state: a file in which a batch writes down which of its tasks have succeeded. The same
            batch run again with it, after a crash, a kill, a cancellation or a failure, runs the
            others, and those that say ``retry_on_rerun``; once all have succeeded it starts from
            the top. It may serve many batches.
        state_age: seconds after the begin of a batch (20 hours) in which it is gone on with; later
            it starts from the top, and that is logged as a warning. ``math.inf``: however late.
        at_once: how many transfers and executions of a batch run at once, with those of the
            batches in it; None is 256. More wait their turn, and their timeouts do not run.
        run_id: what tells the log lines, spans and report of this run from others; None makes one.

    Returns:
        What was done.

    Raises:
        DefinitionError: the definition is wrong, or that of a task of a batch; no request was
            made.
        BatchError: not every task of the batch did its work; carries the report.
        BatchBusyError: the same batch is being run elsewhere with this state file.
        BatchStateError: the state file cannot be used.
        NothingFoundError: nothing matched; of a watch, WatchTimeoutError.
        JournalBusyError: the same definition is being run elsewhere with this journal.
        JournalError: the journal cannot be used.
        PlanError: two writes would collide, or a name cannot be taken; nothing was copied.
        TransferError: something is not where it should be; carries the report.
        FunctionError: a Lambda function ran and failed.
        OutcomeUnknownError: a Lambda function was called, and whether it ran is not known.
        TaskError: a Fargate task was not started, failed, or was not done in time.
        SettingsError: there are no credentials, or no region; or ``at_once`` is less than 1, or
            ``state_age`` not above 0.
        ServiceError: AWS, or the way to it, refused or failed a request.
    """
    if at_once is not None and at_once < 1:
        raise SettingsError(f"at_once must be at least 1, not {at_once}")
    if not state_age > 0:  # nor is NaN
        raise SettingsError(f"state_age must be above 0 seconds, not {state_age}")
    with user_code("reading the definition"):
        # It may be large, and a batch reads files, and checks a thousand more.
        others = tasks or {} if is_batch(definition) else None
        task = await run_in_thread(parse_any, definition, others, abandon_on_cancel=True)
    if not isinstance(task, Batch):
        if state is not None:
            raise DefinitionError("type", "only batches keep a state; transfers have a journal")
        if at_once is not None:
            raise DefinitionError("type", "at_once is for batches")
    async with AsyncExitStack() as stack:
        stack.enter_context(running(str(definition["type"]), run_id))
        kept = None
        if isinstance(task, Batch) and state is not None:
            kept = await stack.enter_async_context(BatchState(state, task, state_age))
        if session is None:
            session = await stack.enter_async_context(Session())
        tell = guarded("on_progress", on_progress)
        if isinstance(task, Batch):
            return await run_batch(
                task, session, tell, journal=journal, state=kept, at_once=at_once or AT_ONCE
            )
        return await run_single(task, definition, session, tell, journal)


def validate(definition: Mapping[str, Any], *, tasks: Tasks | None = None) -> None:
    """Check a task definition as a whole, without touching the network.

    Args:
        definition: a transfer, an execution or a batch.
        tasks: where the tasks of a batch are, as for :func:`run`; None checks its graph alone.

    Raises:
        DefinitionError: something in it is wrong: where in the JSON, and what was expected.
        UnsupportedError: it is right, but for another tool to run.
    """
    parse_any(definition, tasks)


@in_own_task
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
    if is_batch(definition):
        raise DefinitionError("type", "clean the transfers of a batch one by one")
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
