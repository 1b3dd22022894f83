"""Runs the single steps into which Open Task Framework divides transfers and executions."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from aiohaul.aws.errors import as_botocore
from aiohaul.errors import DefinitionError, HaulError, ServiceError, UnsupportedError
from aiohaul.logs import one_line
from aiohaul.progress import Copied, Event, Failed, FlagWritten, OnProgress, SourceActionDone
from aiohaul.report import FargateReport, InvocationReport, Report, TouchReport
from aiohaul.s3.copying.plan import Action, AnyDestination, Destination, LocalDestination, Source
from aiohaul.s3.handler import ANY_NAME, S3Handler, transfers_of
from aiohaul.s3.keys import directory_prefix
from aiohaul.s3.local import list_files, stat_files
from aiohaul.s3.objects import S3Object, uri
from aiohaul.s3.watching.tail import Tail
from aiohaul.session import Session
from aiohaul.tasks.definition import (
    Execution,
    Transfer,
    parse,
    s3_action,
    s3_destination,
    source_options,
)
from aiohaul.tasks.definition_json import S3DestinationJson, S3SourceJson
from aiohaul.tasks.execution import output_of, report_of, run_execution
from aiohaul.tasks.protocol import protocol_settings

#: Keys that the framework adds to a definition.
_ADDED_KEYS = frozenset({"task_id"})


class OtfS3Adapter:
    """The S3 source or S3 destination of a transfer that Open Task Framework runs step by step.

    The adapter remembers the versions of the objects that :meth:`listing` returned, and copies,
    moves or deletes only these versions. Each failure is logged, and one line for each object. The
    methods return False after a failure, as the framework expects.

    Args:
        spec: the source or the destination in the definition. Defaults are added to this dict.
        logger: the logger of the task.
    """

    def __init__(self, spec: dict[str, Any], logger: logging.Logger) -> None:
        spec.setdefault("directory", "")
        if "flag" in spec:
            spec.setdefault("flags", spec["flag"])
        self.spec = spec
        self._logger = logger
        self._on_progress = logged(logger)
        self._listed: dict[str, S3Object] = {}
        self._tail: Tail | None = None

    async def listing(
        self, session: Session, directory: str | None, pattern: str | None
    ) -> dict[str, dict[str, Any]]:
        """List the objects of the source whose names match (ListObjectsV2).

        Args:
            session: the Session.
            directory: the directory in the bucket; None for the directory of the source.
            pattern: a regular expression for file names. None for the pattern of the source; if the
                source has no pattern, for the pattern and the directory of its file watch.

        Returns:
            The objects by key. Each has its ``size`` in bytes and its ``modified_time`` in seconds
            since 1970.

        Raises:
            Exception: a request failed. This is botocore's ``ClientError``, or another error of
                botocore.
            HaulError: another failure.
        """
        watch = self.spec.get("fileWatch", {})
        if pattern is None and "fileRegex" not in self.spec:
            pattern, directory = watch.get("fileRegex"), watch.get("directory", directory)
        if pattern is None:
            pattern = self.spec.get("fileRegex", ANY_NAME.pattern)
        if directory is None:
            directory = self.spec["directory"]
        bucket = self.spec["bucket"]
        try:
            found = await self._s3(session).find(
                bucket, directory, pattern, recursive=self._recursive
            )
        except ServiceError as error:
            self._logger.error("%s", error)  # noqa: TRY400  # the raised one has the traceback
            raise as_botocore(error) from error
        location = uri(bucket, directory)
        self._logger.info("%d objects in %s match %s", len(found), location, pattern)
        self._listed.update((each.key, each) for each in found)
        return {
            each.key: {"size": each.size, "modified_time": each.last_modified.timestamp()}
            for each in found
        }

    async def pull(self, session: Session, keys: Iterable[str], directory: str) -> bool:
        """Copy objects of this source to a local directory; return True if all were copied."""
        target = LocalDestination(directory=Path(directory), create=True)
        try:
            if self._recursive:
                raise UnsupportedError(
                    "source.recursive",
                    "Open Task Framework takes the files of one directory from its worker, and not"
                    " those of subdirectories: use destinations to which S3 copies by itself, or"
                    " run this definition with aiohaul run",
                )
            sources = await self._versions(session, keys)
            return await self._copied(
                session, sources, target, s3_action(cast("S3SourceJson", self.spec))
            )
        except HaulError as error:
            return self._failed(error)

    async def push(self, session: Session, directory: str, files: Iterable[str] | None) -> bool:
        """Copy local files to this destination; return True if all were copied.

        Args:
            session: the Session.
            directory: the local directory.
            files: the paths of the files; None for all files of the directory.
        """
        try:
            if files is None:
                sources = await list_files(directory, ANY_NAME)
            else:
                sources = await stat_files([Path(each) for each in files])
            return await self._copied(session, sources, replace(self._destination(), flag=None))
        except HaulError as error:
            return self._failed(error)

    async def copy(self, session: Session, keys: Iterable[str], other: OtfS3Adapter) -> bool:
        """Copy objects of this source to a destination in S3; return True if all were copied."""
        try:
            return await self._copied(
                session,
                await self._versions(session, keys),
                replace(other._destination(), flag=None),  # of the same class
            )
        except HaulError as error:
            return self._failed(error)

    async def flag(self, session: Session) -> bool:
        """Write the flag of this destination (PutObject); return False if this failed."""
        try:
            target = self._destination()
            if target.flag is not None:
                await session.s3(target.settings).touch(
                    target.bucket, target.flag, options=target.flag_options
                )
                self._on_progress(FlagWritten(uri(target.bucket, target.flag), target.uri))
        except HaulError as error:
            return self._failed(error)
        return True

    async def act(self, session: Session, keys: Iterable[str]) -> bool:
        """Apply the post-copy action to objects of this source; return False if one failed."""
        try:
            action = s3_action(cast("S3SourceJson", self.spec))
            if action is None:
                return True
            report = await self._s3(session).act(
                await self._versions(session, keys), action, on_progress=self._on_progress
            )
        except HaulError as error:
            return self._failed(error)
        return not report.failures

    async def begin_log_watch(self, session: Session) -> bool:
        """Begin the log watch; return False if the log object does not exist or cannot be read."""
        watch = self.spec["logWatch"]
        directory = watch["directory"].strip("/")
        key = f"{directory}/{watch['log']}" if directory else watch["log"]
        try:
            self._tail = Tail(self.spec["bucket"], key, re.compile(watch["contentRegex"]))
            transfers = transfers_of(self._s3(session))
            await transfers.tail_begin(self._tail, at_end=watch.get("tail", False))
        except HaulError as error:
            return self._failed(error)
        except re.error as error:
            self._logger.error(  # noqa: TRY400
                "beginning the log watch failed: logWatch.contentRegex is not a regular"
                " expression: %s",
                error,
            )
            return False
        return True

    async def watch_log(self, session: Session) -> bool:
        """Search the new lines of the log object; return True if one matches."""
        if self._tail is None and not await self.begin_log_watch(session):
            return False
        if self._tail is None:
            raise AssertionError
        try:
            return await transfers_of(self._s3(session)).tail_found(self._tail)
        except HaulError as error:
            return self._failed(error)

    def _s3(self, session: Session) -> S3Handler:
        """Return the handler of this source. A destination has its own options instead."""
        settings = protocol_settings(self.spec["protocol"], ("protocol",))
        return session.s3(settings, source_options(cast("S3SourceJson", self.spec)))

    def _destination(self) -> Destination:
        return s3_destination(cast("S3DestinationJson", self.spec))

    def _failed(self, error: HaulError) -> bool:
        self._logger.error("%s", error)
        return False

    async def _versions(self, session: Session, keys: Iterable[str]) -> list[S3Object]:
        """Return the listed versions of these keys; those of other keys come from HeadObject."""
        s3 = self._s3(session)
        root = directory_prefix(self.spec["directory"]) if self._recursive else None
        return [
            self._listed[key]
            if key in self._listed
            else replace(await s3.head(self.spec["bucket"], key), root=root)
            for key in keys
        ]

    @property
    def _recursive(self) -> bool:
        return bool(self.spec.get("recursive", False))

    async def _copied(
        self,
        session: Session,
        sources: Sequence[Source],
        destination: AnyDestination,
        action: Action | None = None,
    ) -> bool:
        """Copy sources to a destination; return True if all were copied.

        Every failure is logged. The post-copy action is not run, only checked: if it cannot be
        done, an error is raised before the first copy.
        """
        reports = await transfers_of(self._s3(session)).copy_all(
            sources, [destination], action=action, on_progress=self._on_progress
        )
        return not any(each.failures for each in reports)


def execution(spec: Mapping[str, Any]) -> Execution:
    """Check and parse an execution of the framework.

    Raises:
        DefinitionError: the definition is wrong. The error has the path of the wrong value.
    """
    parsed = parse({"type": "execution"} | {k: v for k, v in spec.items() if k not in _ADDED_KEYS})
    if isinstance(parsed, Transfer):
        raise DefinitionError("type", "this is a transfer; expected an execution")
    return parsed


async def execute(session: Session, spec: Mapping[str, Any], logger: logging.Logger) -> bool:
    """Run an execution; return True if it succeeded. A failure is logged, and not raised.

    If this call is cancelled, the lines of a Fargate task are logged too.
    """

    def log_output(report: Report | None) -> None:
        _log_lines(logger, logging.ERROR, output_of(report))

    try:
        report = await run_execution(execution(spec), session, log_output)
    except HaulError as error:
        log_output(report_of(error))
        logger.error("%s", error)  # noqa: TRY400  # a traceback would not help the user
        return False
    match report:
        case TouchReport():
            logger.info("%s was written", report.target)
        case InvocationReport():
            logger.info(
                "the Lambda function %s returned status %d to the %s invocation in %.1f s"
                " (request %s)",
                report.function,
                report.status,
                report.invocation_type,
                report.seconds,
                report.request_id,
            )
            if not report.secret:
                _log_lines(logger, logging.DEBUG, (report.log_tail or "").splitlines())
        case FargateReport():
            _log_lines(logger, logging.INFO, report.logs)
            logger.info(
                "the Fargate task %s ended with exit code %s", report.task, report.exit_code
            )
    return True


def _log_lines(logger: logging.Logger, level: int, lines: Iterable[str]) -> None:
    for line in lines:
        logger.log(level, "%s", one_line(line))


def logged(logger: logging.Logger) -> OnProgress:
    """Return a callback for events that logs one line for each object."""

    def log_event(event: Event) -> None:
        match event:
            case Copied(source, target, _, size):
                text = f"{source} was copied to {target} and verified"
                logger.info("%s (%d bytes)", one_line(text), size)
            case Failed(source, destination, error):
                text = f"the transfer of {source} ({destination}) failed: {error}"
                logger.error("%s", one_line(text))
            case FlagWritten(target, _):
                logger.info("the flag %s was written", one_line(target))
            case SourceActionDone(action, source):
                logger.info("the post-copy action %s of %s succeeded", action, one_line(source))

    return log_event
