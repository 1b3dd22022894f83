"""A sensor for files in S3, which waits in the triggerer and holds no slot of a worker."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseSensorOperator, Context
from airflow.sdk.exceptions import AirflowSensorTimeout

from aiohaul.airflow.attempts import Attempt
from aiohaul.airflow.operators import checked, judged, seconds
from aiohaul.airflow.telling import Json
from aiohaul.airflow.timing import MARGIN, Clock
from aiohaul.airflow.triggers import FileWatchTrigger
from aiohaul.tasks.definition import S3_TRANSFER, Transfer

_TOO_LATE = {"WatchTimeoutError", "OutOfTimeError"}


class FileWatchSensor(BaseSensorOperator):
    """Waits for files. Sensors of one directory share their listings.

    ``poke_interval``, ``timeout`` and ``soft_fail`` are Airflow's; ``mode`` is without effect.

    Args:
        bucket: where to look. Templated.
        directory: without leading or trailing "/"; "" is the whole bucket. Templated.
        file_regex: matched from the start of the name. Templated.
        conditionals: ``size``, ``age`` and ``count``, as a definition has them. Templated.
        protocol: further keys of a definition's ``protocol``, such as ``region_name``. Templated.
        aws_conn_id: a connection of type ``aws`` for what that leaves open. Templated.
        kwargs: those of Airflow's BaseSensorOperator.
    """

    template_fields: Sequence[str] = (
        "bucket",
        "directory",
        "file_regex",
        "conditionals",
        "protocol",
        "aws_conn_id",
    )

    def __init__(
        self,
        *,
        bucket: str,
        file_regex: str,
        directory: str = "",
        conditionals: Mapping[str, Any] | None = None,
        protocol: Mapping[str, Any] | None = None,
        aws_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket = bucket
        self.directory = directory
        self.file_regex = file_regex
        self.conditionals = conditionals
        self.protocol = protocol
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> None:
        """Defer until the files are there.

        Raises:
            AirflowFailException: an argument is wrong.
        """
        clock = Clock.of(time.time(), self.timeout + 1, seconds(self.execution_timeout))
        trigger = FileWatchTrigger(
            definition=checked(self.definition(), Transfer),
            attempt=Attempt.of(context["ti"]).as_dict(),
            clock=clock.as_dict(),
            aws_conn_id=self.aws_conn_id,
        )
        self.defer(
            trigger=trigger,
            method_name="execute_complete",
            timeout=timedelta(seconds=(clock.limit or 0.0) + MARGIN),
        )

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Json:  # noqa: ARG002  # Airflow hands it in
        """Return the report, which becomes the task's XCom.

        Raises:
            AirflowSensorTimeout: nothing was there in time.
            AirflowException: the watch failed.
        """
        if event.get("kind") in _TOO_LATE:
            raise AirflowSensorTimeout(event["error"])
        return judged(event)

    def definition(self) -> dict[str, Any]:
        """The watch as a task definition."""
        conditionals = {**(self.conditionals or {}), "checkDuringFilewatch": True}
        return {
            "type": "transfer",
            "source": {
                "bucket": self.bucket,
                "directory": self.directory,
                "fileRegex": self.file_regex,
                "fileWatch": {
                    "timeout": self.timeout,
                    "sleepTime": self.poke_interval,
                    "watchOnly": True,
                },
                **({"conditionals": conditionals} if self.conditionals else {}),
                "protocol": {"name": S3_TRANSFER, **(self.protocol or {})},
            },
        }
