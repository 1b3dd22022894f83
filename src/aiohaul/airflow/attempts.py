"""Saves the state of the work of a deferred task in Airflow's database.

A triggerer that restarts runs its triggers from the beginning. So that a trigger does not start
work twice, the trigger saves a checkpoint, which is an XCom of a few bytes. Airflow removes the
XComs of a task instance when the next try begins, but not when a deferred task resumes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, GetXCom, SetXCom

#: The key of the XCom that contains the checkpoint.
KEY = "aiohaul"
_DEFERRED = "deferred"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The saved state of the work of one try.

    Attributes:
        begun: True if the work may have begun.
        started: the ARN of the Fargate task or durable execution that the trigger started; None
            if no ARN was saved.
    """

    begun: bool
    started: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a task instance.

    Attributes:
        dag_id: the id of the DAG.
        run_id: the id of the DAG run.
        task_id: the id of the task in the DAG.
        map_index: the index of a mapped task; -1 for a task that is not mapped.
        token: the UUID that Airflow gives each try, as 32 hexadecimal digits.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    token: str

    @classmethod
    def of(cls, ti: Any) -> Self:
        """Return the try of a running task instance.

        Args:
            ti: the task instance, from Airflow's context.
        """
        return cls(
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
            token=ti.id.hex,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the try as a JSON object."""
        return asdict(self)

    def save_first_checkpoint(self) -> None:
        """Save a checkpoint without work, in the worker, before the task is deferred.

        Raises:
            AirflowRuntimeError: Airflow did not save the checkpoint.
        """
        task_runner.SUPERVISOR_COMMS.send(self._checkpoint(begun=False, started=None))

    async def save_checkpoint(self, started: str | None = None) -> None:
        """Save a checkpoint of work that has begun.

        Args:
            started: the ARN of the Fargate task or durable execution; None if there is no ARN.

        Raises:
            AirflowRuntimeError: Airflow did not save the checkpoint.
        """
        await _ask(self._checkpoint(begun=True, started=started))

    async def load_checkpoint(self) -> Checkpoint | None:
        """Return the last checkpoint of this try.

        Returns:
            The checkpoint. None if there is none, because another try has begun.

        Raises:
            AirflowRuntimeError: Airflow did not answer.
        """
        value = (await _ask(GetXCom(key=KEY, **self._instance()))).value
        if not isinstance(value, dict) or value.get("try") != self.token:
            return None
        return Checkpoint(begun=value["begun"], started=value["started"])

    async def still_deferred(self) -> bool:
        """Return True if Airflow still lists this try as deferred, so another triggerer resumes it.

        If a triggerer does not reach the database for half a minute, Airflow moves its triggers to
        another triggerer. The first triggerer then cancels its triggers in the same way as if a
        user had killed their tasks. This method tells the two cases apart.

        Raises:
            AirflowRuntimeError: Airflow did not answer.
        """
        answer = await _ask(
            GetTaskStates(
                dag_id=self.dag_id,
                map_index=self.map_index,
                task_ids=[self.task_id],
                run_ids=[self.run_id],
            )
        )
        states = answer.task_states.get(self.run_id, {}).values()
        return _DEFERRED in states and await self.load_checkpoint() is not None

    def _checkpoint(self, *, begun: bool, started: str | None) -> SetXCom:
        value: dict[str, Any] = {"try": self.token, "begun": begun, "started": started}
        return SetXCom(key=KEY, value=value, **self._instance())

    def _instance(self) -> dict[str, Any]:
        return {
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "task_id": self.task_id,
            "map_index": self.map_index,
        }


async def _ask(message: Any) -> Any:
    """Send a message to Airflow's supervisor of this process, and return the answer.

    Airflow's own functions for XComs use the XCom backend, which may block the event loop.
    """
    supervisor = task_runner.SUPERVISOR_COMMS
    if hasattr(supervisor, "asend"):
        return await supervisor.asend(message)
    return supervisor.send(message)  # in `airflow dags test`, which has one process
