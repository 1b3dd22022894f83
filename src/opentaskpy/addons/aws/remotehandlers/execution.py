"""The base class of OTF's execution handlers."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any

import opentaskpy.otflogging
from opentaskpy.remotehandlers.remotehandler import RemoteExecutionHandler

from aiohaul import installed
from aiohaul.blocking import CallGroup
from aiohaul.logs import warnings_to
from aiohaul.tasks import otf_steps

# Warns if otf-addons-aws is installed too. That addon has no module of this name, so it cannot
# replace this module.
installed.warn_once()


class AwsExecution(RemoteExecutionHandler):
    """Runs an OTF execution with aiohaul.

    Args:
        spec: the task definition, to which OTF adds ``task_id``.
    """

    TASK_TYPE = "E"

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self.logger = opentaskpy.otflogging.init_logging(
            type(self).__module__, spec["task_id"], self.TASK_TYPE
        )
        self._calls = CallGroup()

    def execute(self) -> bool:
        """Run the execution, and return True if it succeeded.

        Return False if the execution failed, or within 1 s after a kill.
        """
        try:
            with warnings_to(self.logger.warning):
                return self._calls.call(otf_steps.execute, self.spec, self.logger)
        except CancelledError:
            # Not logger.exception: a traceback has no information after a kill.
            self.logger.error("execution of task %s was killed", self.spec["task_id"])
            return False

    def kill(self) -> None:
        """Cancel the execution, also before it starts. Any thread may call this method.

        After that, ``execute`` can run again.
        """
        self._calls.end()

    def tidy(self) -> None:
        """Do nothing, because the connections belong to the process, not to the handler."""
