"""What the execution handlers have in common: everything but their names."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any

import opentaskpy.otflogging
from opentaskpy.remotehandlers.remotehandler import RemoteExecutionHandler

from aiohaul import installed
from aiohaul.blocking import Calls
from aiohaul.tasks import steps

# This module is aiohaul's alone: that of another addon is never this one.
installed.warn_once()


class AwsExecution(RemoteExecutionHandler):
    """An execution that aiohaul carries out.

    Args:
        spec: its definition, with OTF's task_id.
    """

    TASK_TYPE = "E"

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self.logger = opentaskpy.otflogging.init_logging(
            type(self).__module__, spec["task_id"], self.TASK_TYPE
        )
        self._calls = Calls()

    def execute(self) -> bool:
        """Carry it out: True if it did its work; False as well within 1 s of a kill."""
        try:
            return self._calls.call(steps.execute, self.spec, self.logger)
        except CancelledError:
            self.logger.error("Killed")  # the traceback says no more
            return False

    def kill(self) -> None:
        """End it, or keep it from starting. May come from any thread; then it can run again."""
        self._calls.end()

    def tidy(self) -> None:
        """Do nothing: connections belong to the process, not to the handler."""
