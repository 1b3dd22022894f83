"""A sensor that waits for objects in S3. It runs in the triggerer, and occupies no worker slot."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseSensorOperator, Context
from airflow.sdk.exceptions import AirflowSensorTimeout

from aiohaul.airflow.attempts import Attempt
from aiohaul.airflow.connection import refuse_keys
from aiohaul.airflow.operators import checked_definition, report_or_raise, seconds
from aiohaul.airflow.timing import MARGIN, Clock
from aiohaul.airflow.triggers import FileWatchTrigger
from aiohaul.airflow.xcom import Json
from aiohaul.tasks.definition import S3_TRANSFER, Transfer

_TIMEOUTS = {"WatchTimeoutError", "OutOfTimeError"}


class FileWatchSensor(BaseSensorOperator):
    """Waits until objects in a directory of a bucket match. AWS: ListObjectsV2.

    Sensors of one directory share their listings. Airflow's ``poke_interval``, ``timeout`` and
    ``soft_fail`` apply; ``mode`` has no effect.

    Args:
        bucket: the bucket. Templated.
        directory: without leading or trailing "/"; "" is the whole bucket. Templated.
        file_regex: a regex, matched from the start of the name. Templated.
        conditionals: the conditions ``size``, ``age`` and ``count`` of a task definition.
            Templated.
        protocol: more keys for the ``protocol`` of the task definition, such as ``region_name``.
            Without keys, because Airflow stores it in its metadata database. Templated.
        aws_conn_id: a connection of type ``aws``, for settings that are missing in ``protocol``.
            Templated.
        kwargs: the arguments of Airflow's BaseSensorOperator.

    Raises:
        DefinitionError: ``protocol`` has a secret key, a session token or an external id.
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
        refuse_keys({"protocol": protocol})  # when the DAG is read: before Airflow stores it
        super().__init__(**kwargs)
        self.bucket = bucket
        self.directory = directory
        self.file_regex = file_regex
        self.conditionals = conditionals
        self.protocol = protocol
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> None:
        """Check the arguments, and defer the task until the objects exist.

        Raises:
            AirflowFailException: an argument is wrong.
        """
        clock = Clock.of(time.time(), self.timeout + 1, seconds(self.execution_timeout))
        trigger = FileWatchTrigger(
            definition=checked_definition(self.definition(), Transfer),
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
        """Return the report of the watch, which Airflow stores as the XCom of the task.

        Raises:
            AirflowSensorTimeout: no object matched before the timeout.
            AirflowException: the watch failed.
        """
        if event.get("kind") in _TIMEOUTS:
            raise AirflowSensorTimeout(event["error"])
        return report_or_raise(event)

    def definition(self) -> dict[str, Any]:
        """Return the task definition of this sensor's watch."""
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
