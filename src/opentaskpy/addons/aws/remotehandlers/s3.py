"""OTF's handlers for S3: transfers, and an execution that writes an empty object."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import CancelledError
from typing import Any, NoReturn

import opentaskpy.otflogging
from opentaskpy.remotehandlers.remotehandler import RemoteTransferHandler

from aiohaul.blocking import CallGroup
from aiohaul.logs import warnings_to
from aiohaul.tasks import otf_steps
from opentaskpy.addons.aws.remotehandlers.execution import AwsExecution


class S3Transfer(RemoteTransferHandler):
    """The source or the destination of an OTF transfer, in S3.

    A definition with ``key`` is an execution that writes an empty object. Such a definition may
    name this class instead of :class:`S3Execution`.

    Args:
        spec: the source or the destination of the definition, to which OTF adds ``task_id``.
    """

    TASK_TYPE = "T"

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self.logger = opentaskpy.otflogging.init_logging(__name__, spec["task_id"], self.TASK_TYPE)
        self._calls = CallGroup()
        self._touches = "key" in spec
        if not self._touches:
            self.side = otf_steps.OtfS3Adapter(spec, self.logger)

    def supports_direct_transfer(self) -> bool:
        """Return True, because S3 can copy objects between buckets."""
        return True

    def list_files(
        self, directory: str | None = None, file_pattern: str | None = None
    ) -> dict[str, dict[str, Any]]:
        """List the objects whose name matches. AWS: ListObjectsV2.

        Args:
            directory: the directory; None uses the directory of the definition.
            file_pattern: a regex, matched from the start of the name; None uses the regex of the
                definition.

        Returns:
            ``size`` in bytes and ``modified_time`` in seconds since 1970 for each key.

        Raises:
            ClientError: S3 rejected the request.
        """
        with warnings_to(self.logger.warning):
            return self._calls.call(self.side.listing, directory, file_pattern)

    def transfer_files(
        self,
        files: Iterable[str],
        remote_spec: dict[str, Any],  # noqa: ARG002  # dest_remote_handler has it too
        dest_remote_handler: Any = None,
    ) -> int:
        """Copy objects of this source to a destination. Return 0 if all were copied, else 1.

        Args:
            files: the keys of the objects.
            remote_spec: not used.
            dest_remote_handler: the S3Transfer of the destination.
        """
        return self._status(self.side.copy, list(files), dest_remote_handler.side)

    def pull_files_to_worker(self, files: Iterable[str], local_staging_directory: str) -> int:
        """Copy objects to a local directory. Return 0 if all were copied, else 1."""
        return self._status(self.side.pull, list(files), local_staging_directory)

    def push_files_from_worker(
        self, local_staging_directory: str, file_list: dict[str, Any] | None = None
    ) -> int:
        """Copy local files to this destination. Return 0 if all were copied, else 1.

        Args:
            local_staging_directory: the directory of the files.
            file_list: the files; None copies all files of the directory.
        """
        return self._status(self.side.push, local_staging_directory, file_list or None)

    def create_flag_files(self) -> int:
        """Write the flag object. Return 0 if it was written, else 1."""
        return self._status(self.side.flag)

    def handle_post_copy_action(self, files: Iterable[str]) -> int:
        """Move, rename or delete the listed versions of objects.

        Return 0 if the action succeeded for all objects, else 1.
        """
        return self._status(self.side.act, list(files))

    def init_logwatch(self) -> int:
        """Start a log watch on an object. Return 0 if the object exists, else 1."""
        return self._status(self.side.begin_log_watch)

    def do_logwatch(self) -> int:
        """Search the lines added since the last call. Return 0 if a line matches, else 1."""
        return self._status(self.side.watch_log)

    def pull_files(self, files: Iterable[str]) -> NoReturn:
        """Raise an error, because S3 cannot fetch files from another system.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError

    def move_files_to_final_location(self, files: Iterable[str]) -> NoReturn:
        """Raise an error, because aiohaul writes each object to its final key at once.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError

    def execute(self) -> bool:
        """Write the empty object of an execution. Return True if the object was written."""
        return not self._status(otf_steps.execute, self.spec, self.logger)

    def kill(self) -> None:
        """Cancel the running step, or the next step if none runs. Any thread may call this."""
        self._calls.end()

    def tidy(self) -> None:
        """Do nothing, because the connections belong to the process, not to the handler."""

    def _status(self, step: Any, *arguments: Any) -> int:
        """Run a step of the transfer. Return 0 if it succeeded, 1 if it failed or was killed."""
        try:
            with warnings_to(self.logger.warning):
                return 0 if self._calls.call(step, *arguments) else 1
        except CancelledError:
            # Not logger.exception: a traceback has no information after a kill.
            self.logger.error("transfer of task %s was killed", self.spec["task_id"])
            return 1


class S3Execution(AwsExecution):
    """Writes an empty object. AWS: PutObject."""
