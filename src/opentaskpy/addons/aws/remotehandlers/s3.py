"""S3 as a source and a destination of transfers, and an empty object as an execution."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import CancelledError
from typing import Any, NoReturn

import opentaskpy.otflogging
from opentaskpy.remotehandlers.remotehandler import RemoteTransferHandler

from aiohaul.blocking import Calls
from aiohaul.tasks import steps
from opentaskpy.addons.aws.remotehandlers.execution import AwsExecution


class S3Transfer(RemoteTransferHandler):
    """One side of a transfer; or, as definitions have it too, the execution of S3Execution.

    Args:
        spec: its part of the definition, with OTF's task_id.
    """

    TASK_TYPE = "T"

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self.logger = opentaskpy.otflogging.init_logging(__name__, spec["task_id"], self.TASK_TYPE)
        self._calls = Calls()
        self._touches = "key" in spec
        if not self._touches:
            self.side = steps.S3Side(spec, self.logger)

    def supports_direct_transfer(self) -> bool:
        """Tell OTF that S3 copies by itself."""
        return True

    def list_files(
        self, directory: str | None = None, file_pattern: str | None = None
    ) -> dict[str, dict[str, Any]]:
        """List the objects that match, by key, each with ``size`` and ``modified_time``.

        Args:
            directory: None is the definition's.
            file_pattern: a regex for the start of the name; None is the definition's.

        Raises:
            ClientError: S3 refused it.
        """
        return self._calls.call(self.side.listing, directory, file_pattern)

    def transfer_files(
        self,
        files: Iterable[str],
        remote_spec: dict[str, Any],  # noqa: ARG002  # the handler has it too
        dest_remote_handler: Any = None,
    ) -> int:
        """Copy objects of this side to another S3Transfer: 0 if all are there, else 1."""
        return self._status(self.side.copy, list(files), dest_remote_handler.side)

    def pull_files_to_worker(self, files: Iterable[str], local_staging_directory: str) -> int:
        """Copy objects to a directory: 0 if all are there, else 1."""
        return self._status(self.side.pull, list(files), local_staging_directory)

    def push_files_from_worker(
        self, local_staging_directory: str, file_list: dict[str, Any] | None = None
    ) -> int:
        """Copy files, or else all files of a directory, here: 0 if all are there, else 1."""
        return self._status(self.side.push, local_staging_directory, file_list or None)

    def create_flag_files(self) -> int:
        """Write the flag: 0 if it is there, else 1."""
        return self._status(self.side.flag)

    def handle_post_copy_action(self, files: Iterable[str]) -> int:
        """Move, rename or delete the versions that were listed: 0 if all are done, else 1."""
        return self._status(self.side.act, list(files))

    def init_logwatch(self) -> int:
        """Begin a log watch on an object: 0 if it is there, else 1."""
        return self._status(self.side.begin_log_watch)

    def do_logwatch(self) -> int:
        """Look at what was added to the log since the last look: 0 if a line matches, else 1."""
        return self._status(self.side.watch_log)

    def pull_files(self, files: Iterable[str]) -> NoReturn:
        """Refuse: no other system is told to fetch from S3.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError

    def move_files_to_final_location(self, files: Iterable[str]) -> NoReturn:
        """Refuse: an object is where it belongs once it is written.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError

    def execute(self) -> bool:
        """Write the empty object of an execution: True if it is there."""
        return not self._status(steps.execute, self.spec, self.logger)

    def kill(self) -> None:
        """End what is under way, or the next step before it begins. May come from any thread."""
        self._calls.end()

    def tidy(self) -> None:
        """Do nothing: connections belong to the process, not to the handler."""

    def _status(self, step: Any, *arguments: Any) -> int:
        """0 if a step did all of its work, 1 if not, or if it was killed."""
        try:
            return 0 if self._calls.call(step, *arguments) else 1
        except CancelledError:
            self.logger.error("Killed")  # the traceback says no more
            return 1


class S3Execution(AwsExecution):
    """An empty object, written where the definition says."""
