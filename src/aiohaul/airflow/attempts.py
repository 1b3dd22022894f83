"""One try of a task instance, and what Airflow's database keeps of it while it is deferred.

A trigger is started again from the beginning whenever its triggerer restarts. So that it neither
starts work twice nor calls a function twice, it leaves a mark: an XCom of a few bytes. Airflow
removes a task instance's XComs when its next try begins, and not when a deferred one goes on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, GetXCom, SetXCom

#: The XCom that holds the mark.
KEY = "aiohaul"
_DEFERRED = "deferred"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What is known of the work of a try.

    Attributes:
        begun: it may have begun.
        started: the ARN of what was started; None if that is not known.
    """

    begun: bool
    started: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a task instance.

    Attributes:
        dag_id: as Airflow has it.
        run_id: as Airflow has it.
        task_id: as Airflow has it.
        map_index: as Airflow has it; -1 where nothing is mapped.
        token: 32 hexadecimal digits, of this try alone: Airflow gives each try a new UUID.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    token: str

    @classmethod
    def of(cls, ti: Any) -> Self:
        """The try that a running task instance is."""
        return cls(
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
            token=ti.id.hex,
        )

    def as_dict(self) -> dict[str, Any]:
        """The try as JSON."""
        return asdict(self)

    def announce(self) -> None:
        """Leave the first mark, in the worker, before the task is deferred.

        Raises:
            AirflowRuntimeError: Airflow did not take it.
        """
        task_runner.SUPERVISOR_COMMS.send(self._mark(begun=False, started=None))

    async def mark(self, started: str | None = None) -> None:
        """Write down that the work is begun.

        Args:
            started: the ARN of what was started.

        Raises:
            AirflowRuntimeError: Airflow did not take it.
        """
        await _ask(self._mark(begun=True, started=started))

    async def marked(self) -> Mark | None:
        """The last mark of this try; None if another try has begun since.

        Raises:
            AirflowRuntimeError: Airflow did not answer.
        """
        value = (await _ask(GetXCom(key=KEY, **self._instance()))).value
        if not isinstance(value, dict) or value.get("try") != self.token:
            return None
        return Mark(begun=value["begun"], started=value["started"])

    async def still_deferred(self) -> bool:
        """True if this very try is deferred: then another triggerer goes on with it.

        A triggerer that could not reach the database for half a minute loses its triggers to
        another one, and cancels them once it finds out, as if a user had killed their tasks.

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
        return _DEFERRED in states and await self.marked() is not None

    def _mark(self, *, begun: bool, started: str | None) -> SetXCom:
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
    """Ask whoever supervises this process: the triggerer, or the worker.

    Airflow's own functions for this go through the XCom backend, which may block the loop.
    """
    supervisor = task_runner.SUPERVISOR_COMMS
    if hasattr(supervisor, "asend"):
        return await supervisor.asend(message)
    return supervisor.send(message)  # `airflow dags test`, all in one process
