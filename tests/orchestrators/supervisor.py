"""What a trigger talks to in Airflow, in the tests' own process."""

from __future__ import annotations

from typing import Any

from airflow.sdk.execution_time.comms import GetTaskStates, GetXCom, SetXCom


class Supervisor:
    """Airflow's side of a trigger: one XCom, and the state of one task instance."""

    def __init__(self) -> None:
        self.xcom: Any = None
        self.state = "deferred"

    async def asend(self, message: Any) -> Any:
        match message:
            case SetXCom():
                self.xcom = message.value
            case GetXCom():
                return type("Answer", (), {"value": self.xcom})
            case GetTaskStates():
                states = {message.run_ids[0]: {"t": self.state}}
                return type("Answer", (), {"task_states": states})
        return None

    def send(self, message: Any) -> Any:
        self.xcom = message.value
