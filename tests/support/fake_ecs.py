"""ECS and CloudWatch Logs of the tests' own: tasks end when and how a test says, calls counted."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.fake_http import FakeServer, Request

ACCOUNT = "arn:aws:ecs:eu-west-1:000000000000"


@dataclass(eq=False)
class FakeEcs(FakeServer):
    """Tasks by ARN, and what they write.

    Attributes:
        tasks: as DescribeTasks shows them.
        calls: how often each operation came.
        asked: how many ARNs each DescribeTasks had.
        requests: each RunTask, as it came.
        tokens: the clientToken of each RunTask.
        overrides: the containerOverrides of each RunTask.
        stopped: the ARNs of StopTask, in order.
        status: of a task that was just made.
        containers: the names of its containers.
        definitions: what the task definition says of a container besides, by its name.
        refusals: what RunTask answers instead of a task.
        shortages: what the first RunTasks answer instead of a task, one after the other.
        errors: by operation: statuses, codes and messages to answer first, one after the other.
        log: the lines of every log stream.
        log_group: where the task definition sends them.
        page: how many lines a page of a log has.
        hold_start: RunTask makes the task, and answers only when this is set free.
        lost_starts: how many RunTasks make their task and answer 500.
        unlisted: ListTasks does not show the tasks yet.
        hold_look: DescribeTasks of more than one task are answered only when this is set free.
        stops_a_second: StopTask is throttled beyond these, but for a first burst of as many.
    """

    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    asked: list[int] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    overrides: list[Any] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    status: str = "RUNNING"
    containers: tuple[str, ...] = ("main",)
    definitions: dict[str, dict[str, Any]] = field(default_factory=dict)
    refusals: list[dict[str, str]] = field(default_factory=list)
    shortages: list[dict[str, str]] = field(default_factory=list)
    errors: dict[str, list[tuple[int, str] | tuple[int, str, str]]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    log_group: str = "/ecs/work"
    page: int = 100
    hold_start: asyncio.Event | None = None
    lost_starts: int = 0
    unlisted: bool = False
    hold_look: tuple[str, asyncio.Event] | None = None
    stops_a_second: float | None = None
    _stop_tokens: float = 0.0
    _stop_seen: float = 0.0

    def end(self, arn: str, *codes: int | None, reason: str = "it is done", **more: Any) -> None:
        """Let a task end, its containers with these exit codes."""
        task = self.tasks[arn]
        task.update(lastStatus="STOPPED", stoppedReason=reason, **more)
        for container, code in zip(task["containers"], codes, strict=False):
            if code is not None:
                container["exitCode"] = code

    async def serve(self, request: Request) -> None:
        operation = request.headers["x-amz-target"].rpartition(".")[2]
        self.calls[operation] += 1
        if operation == "StopTask" and self._throttles():
            await request.connection.answer(400, b'{"__type": "ThrottlingException"}')
        elif pending := self.errors.get(operation):
            status, code, *message = pending.pop(0)
            says = {"message": message[0] if message else "as the test says"}
            body = json.dumps({"__type": code, **says}).encode()
            await request.connection.answer(status, body)
        else:
            given = json.loads(request.body)
            answer = getattr(self, f"_{operation}")(given)
            if held := self._held(operation, given):
                await self.tell()
                await held.wait()
            status = 200
            if operation == "RunTask" and self.lost_starts > 0:
                self.lost_starts -= 1
                status, answer = 500, {"__type": "ServerException"}
            await request.connection.answer(status, json.dumps(answer).encode())
        await self.tell()

    def _held(self, operation: str, given: Mapping[str, Any]) -> asyncio.Event | None:
        if operation == "RunTask":
            return self.hold_start
        if operation == "DescribeTasks" and self.hold_look is not None:
            arn, go_on = self.hold_look
            return go_on if arn in given["tasks"] else None
        return None

    def _throttles(self) -> bool:
        if self.stops_a_second is None:
            return False
        now = asyncio.get_running_loop().time()
        gained = (now - self._stop_seen) * self.stops_a_second
        self._stop_tokens = min(self._stop_tokens + gained, self.stops_a_second)
        self._stop_seen = now
        if self._stop_tokens < 1:
            return True
        self._stop_tokens -= 1
        return False

    def _RunTask(self, given: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802  # AWS's name
        self.requests.append(dict(given))
        self.tokens.append(given["clientToken"])
        self.overrides.append(given["overrides"]["containerOverrides"])
        if self.shortages:
            return {"tasks": [], "failures": [self.shortages.pop(0)]}
        if self.refusals:
            return {"tasks": [], "failures": self.refusals}
        for task in self.tasks.values():  # one that is told of again
            if task.get("clientToken") == given["clientToken"]:
                return {"tasks": [task], "failures": []}
        arn = f"{ACCOUNT}:task/{given['cluster']}/{len(self.tasks):032x}"
        self.tasks[arn] = {
            "taskArn": arn,
            "startedBy": given["startedBy"],
            "clientToken": given["clientToken"],
            "taskDefinitionArn": f"{ACCOUNT}:task-definition/{given['taskDefinition']}:1",
            "lastStatus": self.status,
            "containers": [{"name": name} for name in self.containers],
        }
        just_made = self.tasks[arn] | {"lastStatus": "PROVISIONING"}
        if self.status == "RUNNING":
            self.tasks[arn]["startedAt"] = 1750000000
        return {"tasks": [just_made], "failures": []}

    def _DescribeTasks(self, given: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802  # as above
        arns = given["tasks"]
        self.asked.append(len(arns))
        return {
            "tasks": [self.tasks[arn] for arn in arns if arn in self.tasks],
            "failures": [
                {"arn": arn, "reason": "MISSING"} for arn in arns if arn not in self.tasks
            ],
        }

    def _ListTasks(self, given: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802  # as above
        listed = [
            arn for arn, each in self.tasks.items() if each["startedBy"] == given["startedBy"]
        ]
        return {"taskArns": [] if self.unlisted else listed}

    def _StopTask(self, given: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802  # as above
        self.stopped.append(given["task"])
        if given["task"] not in self.tasks:
            return {}
        self.end(given["task"], reason=given["reason"])
        return {"task": self.tasks[given["task"]]}

    def _DescribeTaskDefinition(self, given: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802, ARG002  # as above
        options = {"awslogs-group": self.log_group, "awslogs-stream-prefix": "ecs"}
        return {
            "taskDefinition": {
                "containerDefinitions": [
                    {
                        "name": name,
                        "logConfiguration": {"logDriver": "awslogs", "options": options},
                        **self.definitions.get(name, {}),
                    }
                    for name in self.containers
                ]
            }
        }

    def _GetLogEvents(self, given: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802  # as above
        newest = 0 if given.get("startFromHead") else max(0, len(self.log) - self.page)
        start = int(given.get("nextToken", newest))
        lines = self.log[start : start + self.page]
        return {
            "events": [
                {"timestamp": 1750000000000 + start + number, "message": line}
                for number, line in enumerate(lines)
            ],
            "nextForwardToken": str(start + len(lines)),
        }


class Ecs(FakeEcs):
    """Its tasks end at the second look."""

    def _DescribeTasks(self, given: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802  # AWS's name
        answer = super()._DescribeTasks(given)
        shown = json.loads(json.dumps(answer))
        for arn in given["tasks"]:
            if arn in self.tasks and self.tasks[arn]["lastStatus"] != "STOPPED":
                self.end(arn, 0)
        return dict(shown)
