"""Transfers and executions in the steps in which another framework asks for them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohaul.aws.errors import as_botocore
from aiohaul.errors import DefinitionError, HaulError, ServiceError, TaskError
from aiohaul.logs import one_line
from aiohaul.progress import Acted, Copied, Event, Failed, Flagged, OnProgress
from aiohaul.report import FargateReport, InvocationReport, TouchReport
from aiohaul.s3.copying.plan import Action, AnyDestination, Destination, LocalDestination, Source
from aiohaul.s3.local import list_files, look_at
from aiohaul.s3.objects import S3Object, uri
from aiohaul.s3.watching.tail import Tail
from aiohaul.s3.watching.watches import ANY_NAME
from aiohaul.session import Session
from aiohaul.settings import Settings
from aiohaul.tasks.definition import (
    Execution,
    Transfer,
    parse,
    s3_action,
    s3_destination,
    writes_acl,
)
from aiohaul.tasks.execution import run_execution

#: What a framework adds to a definition for itself.
_NOT_OURS = frozenset({"task_id"})


class S3Side:
    """One side of a transfer, source or destination, as its part of the definition says it.

    It remembers the versions that it has listed: what is copied or deleted later is these. Every
    failure is told to the logger; of what was done to each object there is one line.

    Args:
        spec: the part of the definition. What is left out and can be is filled in there.
        logger: where the lines go.
    """

    def __init__(self, spec: dict[str, Any], logger: logging.Logger) -> None:
        spec.setdefault("directory", "")
        if "flag" in spec:
            spec.setdefault("flags", spec["flag"])
        self.spec = spec
        self._logger = logger
        self._tell = logged(logger)
        self._listed: dict[str, S3Object] = {}
        self._tail: Tail | None = None

    async def listing(
        self, session: Session, directory: str | None, pattern: str | None
    ) -> dict[str, dict[str, Any]]:
        """The objects that match, by key, each with its ``size`` and ``modified_time``.

        Args:
            session: the way to S3.
            directory: None is the source's own.
            pattern: None is the source's own, or that of its watch, with its directory.

        Raises:
            Exception: botocore's ``ClientError``, or whatever else botocore raised.
            HaulError: a failure that is none of botocore's.
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
            found = await session.s3(self._settings).find(bucket, directory, pattern)
        except ServiceError as error:
            self._logger.error("%s", error)  # noqa: TRY400  # the raised one has the traceback
            raise as_botocore(error) from error
        place = uri(bucket, directory)
        self._logger.info("%d objects in %s have names like %s", len(found), place, pattern)
        self._listed.update((each.key, each) for each in found)
        return {
            each.key: {"size": each.size, "modified_time": each.last_modified.timestamp()}
            for each in found
        }

    async def pull(self, session: Session, keys: Iterable[str], directory: str) -> bool:
        """Copy objects to a directory of this machine: True if all are there."""
        target = LocalDestination(directory=Path(directory), create=True)
        try:
            sources = await self._versions(session, keys)
            return await self._copied(session, sources, target, s3_action(self.spec))
        except HaulError as error:
            return self._failed(error)

    async def push(self, session: Session, directory: str, files: Iterable[str] | None) -> bool:
        """Copy files to this destination: True if all are there.

        Args:
            session: the way to S3.
            directory: where they are.
            files: their paths; None is everything in the directory.
        """
        try:
            if files is None:
                sources = await list_files(directory, ANY_NAME)
            else:
                sources = await look_at([Path(each) for each in files])
            return await self._copied(session, sources, replace(self._destination(), flag=None))
        except HaulError as error:
            return self._failed(error)

    async def copy(self, session: Session, keys: Iterable[str], other: S3Side) -> bool:
        """Copy objects of this source to another side in S3: True if all are there."""
        try:
            return await self._copied(
                session,
                await self._versions(session, keys),
                replace(other._destination(), flag=None),  # of the same class
            )
        except HaulError as error:
            return self._failed(error)

    async def flag(self, session: Session) -> bool:
        """Write the flag of this destination: True if it is there."""
        try:
            target = self._destination()
            if target.flag is not None:
                await session.s3(target.settings).touch(
                    target.bucket,
                    target.flag,
                    bucket_owner_full_control=target.bucket_owner_full_control,
                )
                self._tell(Flagged(uri(target.bucket, target.flag), target.uri))
        except HaulError as error:
            return self._failed(error)
        return True

    async def act(self, session: Session, keys: Iterable[str]) -> bool:
        """Do the post-copy action to objects of this source: True if it is done to all."""
        try:
            action = s3_action(self.spec)
            if action is None:
                return True
            report = await session.s3(self._settings).act(
                await self._versions(session, keys),
                action,
                bucket_owner_full_control=writes_acl(self.spec["protocol"]),
                on_progress=self._tell,
            )
        except HaulError as error:
            return self._failed(error)
        return not report.failures

    async def begin_log_watch(self, session: Session) -> bool:
        """Make sure that the log of the log watch is there: True if it is."""
        watch = self.spec["logWatch"]
        directory = watch["directory"].strip("/")
        key = f"{directory}/{watch['log']}" if directory else watch["log"]
        try:
            self._tail = Tail(self.spec["bucket"], key, re.compile(watch["contentRegex"]))
            await session.s3(self._settings).tail_begin(self._tail, at_end=watch.get("tail", False))
        except HaulError as error:
            return self._failed(error)
        except re.error as error:
            self._logger.error("logWatch.contentRegex is no regex: %s", error)  # noqa: TRY400
            return False
        return True

    async def watch_log(self, session: Session) -> bool:
        """Look at what was added to the log: True if a line matches."""
        if self._tail is None and not await self.begin_log_watch(session):
            return False
        if self._tail is None:
            raise AssertionError
        try:
            return await session.s3(self._settings).tail_found(self._tail)
        except HaulError as error:
            return self._failed(error)

    @property
    def _settings(self) -> Settings:
        return Settings.from_protocol(self.spec["protocol"])

    def _destination(self) -> Destination:
        return s3_destination(self.spec)

    def _failed(self, error: HaulError) -> bool:
        self._logger.error("%s", error)
        return False

    async def _versions(self, session: Session, keys: Iterable[str]) -> list[S3Object]:
        """The versions that were listed; what was not listed is looked at now."""
        s3 = session.s3(self._settings)
        return [
            self._listed[key] if key in self._listed else await s3.head(self.spec["bucket"], key)
            for key in keys
        ]

    async def _copied(
        self,
        session: Session,
        sources: Sequence[Source],
        destination: AnyDestination,
        action: Action | None = None,
    ) -> bool:
        """Copy; every failure is in the log, by way of the events.

        The post-copy action is only looked at: one that cannot be done is refused here, before
        a byte moves.
        """
        reports = await session.s3(self._settings).copy_all(
            sources, [destination], action=action, on_progress=self._tell
        )
        return not any(each.failures for each in reports)


def execution(spec: Mapping[str, Any]) -> Execution:
    """The value of an execution as a framework hands it on.

    Raises:
        DefinitionError: something in it is wrong: where, and what was expected.
    """
    parsed = parse({"type": "execution"} | {k: v for k, v in spec.items() if k not in _NOT_OURS})
    if isinstance(parsed, Transfer):
        raise DefinitionError("type", "this is a transfer; expected an execution")
    return parsed


async def execute(session: Session, spec: Mapping[str, Any], logger: logging.Logger) -> bool:
    """Carry out an execution: True if it did its work; else the reason is in the log."""
    try:
        report = await run_execution(execution(spec), session)
    except HaulError as error:
        if isinstance(error, TaskError) and error.result is not None:
            _log_lines(logger, [line.message for line in error.result.logs])
        logger.error("%s", error)  # noqa: TRY400  # it says what to do; its traceback does not
        return False
    match report:
        case TouchReport():
            logger.info("%s is written", report.target)
        case InvocationReport():
            logger.info(
                "%s answered %d to %s in %.1f s (request %s)",
                report.function,
                report.status,
                report.invocation_type,
                report.seconds,
                report.request_id,
            )
        case FargateReport():
            _log_lines(logger, report.logs)
            logger.info("%s ended with exit code %s", report.task, report.exit_code)
    return True


def _log_lines(logger: logging.Logger, lines: Iterable[str]) -> None:
    """What a task wrote: it is wanted most where the task failed."""
    for line in lines:
        logger.info("%s", line)


def logged(logger: logging.Logger) -> OnProgress:
    """Log one line for every object and what was done to it."""

    def tell(event: Event) -> None:
        match event:
            case Copied(source, target, _, size):
                text = f"{source} is at {target}, verified"
                logger.info("%s (%d bytes)", one_line(text), size)
            case Failed(source, destination, error):
                logger.error("%s", one_line(f"{source}, {destination}: {error}"))
            case Flagged(target, _):
                logger.info("the flag %s is written", one_line(target))
            case Acted(action, source):
                logger.info("%s: %s is done", one_line(source), action)

    return tell
