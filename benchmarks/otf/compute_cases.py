"""Lambda functions, Fargate tasks and batches of both, for ``compare_addons``.

Each definition runs on a server of the tests' own, which counts the requests and lets functions
and tasks end as the case says.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.otf.reference import environment
from tests.support.fake_ecs import FakeEcs
from tests.support.fake_http import FakeServer, Request
from tests.support.fake_lambda import FakeLambda, Function, failing, refuse, returning

HANDLERS = "opentaskpy.addons.aws.remotehandlers"
COUNTED = ("Invoke", "RunTask", "StopTask")
#: What a case compares.
COMPARED = ("exit", "requests", "said")

Definition = dict[str, Any]


@dataclass(frozen=True)
class ComputeCase:
    """A definition, what AWS answers, and how the two addons are meant to differ.

    Attributes:
        name: of the line in the table.
        definition: what ``task-run`` gets.
        differs: what of "exit", "requests" and "said" differs, and why.
        answers: what the function "work" answers, one after the other, the last one for ever.
        looks: what each DescribeTasks shows of a task: its changes, the last ones for ever.
        ecs: attributes of the server of ECS.
        words: what may be in the output, and is looked for.
        tasks: the definitions of the tasks of a batch.
    """

    name: str
    definition: Definition
    differs: Mapping[str, str] = field(default_factory=dict)
    answers: Sequence[Function] = ()
    looks: Sequence[Mapping[str, Any]] = ()
    ecs: Mapping[str, Any] = field(default_factory=dict)
    words: Sequence[str] = ()
    tasks: Mapping[str, Definition] = field(default_factory=dict)


@dataclass(frozen=True)
class ComputeOutcome:
    """What one addon made of a case."""

    exit: int
    requests: Mapping[str, int]
    said: Sequence[str]
    seconds: float


class _Ecs(FakeEcs):
    """Its tasks go through the looks of a case; takes ids of tasks for ARNs, as ECS does."""

    def __init__(self, looks: Sequence[Mapping[str, Any]], **more: Any) -> None:
        super().__init__(**more)
        self._looks = looks
        self._seen: Counter[str] = Counter()

    def _RunTask(self, given: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802  # AWS's name
        return super()._RunTask({"startedBy": "", **given})

    def _DescribeTasks(self, given: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802  # as above
        arns = [self._arn(each) for each in given["tasks"]]
        for arn in arns:
            if arn in self.tasks and self._looks and self.tasks[arn]["lastStatus"] != "STOPPED":
                number = min(self._seen[arn], len(self._looks) - 1)
                self._seen[arn] += 1
                self.tasks[arn].update(json.loads(json.dumps(self._looks[number])))
        return super()._DescribeTasks({**given, "tasks": arns})

    def _StopTask(self, given: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802  # as above
        return super()._StopTask({**given, "task": self._arn(given["task"])})

    def _arn(self, name: str) -> str:
        return next((arn for arn in self.tasks if arn.endswith(name)), name)


class _Server(FakeServer):
    """Lambda, ECS and CloudWatch Logs at one address."""

    def __init__(self, case: ComputeCase) -> None:
        super().__init__()
        self.lambda_ = FakeLambda()
        if case.answers:
            self.lambda_.functions["work"] = self._in_turn(list(case.answers))
        self.ecs = _Ecs(case.looks, **case.ecs)

    @staticmethod
    def _in_turn(answers: list[Function]) -> Function:
        async def function(request: Request) -> None:
            await (answers.pop(0) if len(answers) > 1 else answers[0])(request)

        return function

    async def serve(self, request: Request) -> None:
        to_ecs = "x-amz-target" in request.headers
        await (self.ecs if to_ecs else self.lambda_).serve(request)

    @property
    def requests(self) -> dict[str, int]:
        counts = {**self.ecs.calls, "Invoke": len(self.lambda_.invocations)}
        return {name: counts[name] for name in COUNTED if counts.get(name)}


def _write(folder: Path, tasks: Mapping[str, Definition]) -> None:
    (folder / "variables.json").write_text("{}")
    for name, definition in tasks.items():
        (folder / f"{name}.json").write_text(json.dumps(definition))


async def run(case: ComputeCase, python: Path) -> ComputeOutcome:
    """Run a case with the ``task-run`` of an environment."""
    async with _Server(case) as server:
        with tempfile.TemporaryDirectory() as folder:
            _write(Path(folder), {**case.tasks, "task": case.definition})
            begun = time.perf_counter()
            process = await asyncio.create_subprocess_exec(
                *(str(python.with_name("task-run")), "-t", "task", "-c", folder, "-v", "2"),
                env=environment(server.url, OTF_LOG_DIRECTORY=folder),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await process.communicate()
        seconds = time.perf_counter() - begun
        said = [word for word in case.words if word in output.decode(errors="replace")]
        return ComputeOutcome(process.returncode or 0, server.requests, said, seconds)


def differences(ours: ComputeOutcome, theirs: ComputeOutcome) -> dict[str, str]:
    """What differs, and in which way."""
    return {
        what: f"{_text(getattr(ours, what))} and {_text(getattr(theirs, what))}"
        for what in COMPARED
        if getattr(ours, what) != getattr(theirs, what)
    }


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{count} {name}" for name, count in value.items()) or "no request"
    if isinstance(value, list):
        return ", ".join(map(repr, value)) or "nothing"
    return str(value)


def call(**more: Any) -> Definition:
    """A Lambda execution; ``protocol`` adds to its protocol."""
    protocol = {"name": f"{HANDLERS}.lambda.LambdaExecution", **more.pop("protocol", {})}
    usual = {"type": "execution", "functionArn": "work", "invocationType": "RequestResponse"}
    return {**usual, **more, "protocol": protocol}


def load(**more: Any) -> Definition:
    """A Fargate execution."""
    usual = {
        "type": "execution",
        "clusterName": "batch",
        "taskFamily": "work",
        "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
        "protocol": {"name": f"{HANDLERS}.ecsfargate.FargateTaskExecution"},
    }
    return {**usual, **more}


def ended(*codes: int, **more: Any) -> dict[str, Any]:
    """What DescribeTasks shows of a task whose containers ended with these codes."""
    names = ("main",) if len(codes) == 1 else ("log_router", "app")
    containers = [{"name": name, "exitCode": code} for name, code in zip(names, codes, strict=True)]
    usual = {"lastStatus": "STOPPED", "stoppedReason": "Essential container in task exited"}
    return {**usual, "startedAt": 1750000000, "containers": containers, **more}


ONE_RETRY = {"max_attempts": 1}
TAIL = "a line of the function"
LINE = "a line of the container"
REASON = "no such day"
LOGGED = {"log": [LINE], "log_group": "/ecs/work"}
ROUTED: Mapping[str, Any] = {
    "containers": ("log_router", "app"),
    "definitions": {"log_router": {"firelensConfiguration": {"type": "fluentbit"}}},
}
NEW_KEYS = "the schema of the reference refuses the new keys"
FIRST_DECIDES = "the container that ECS names first decides for the reference"
NOT_STOPPED = "the reference lets the task run on"


def throttled(status: int, code: str) -> list[Function]:
    """One refusal, and then an answer."""
    return [refuse(status, code, "later"), returning()]


COMPUTE_CASES = [
    ComputeCase("a function returns", call(), answers=[returning(b'{"rows": 7}')]),
    ComputeCase(
        "a function fails, with a tail",
        call(),
        answers=[failing({"errorType": "KeyError", "errorMessage": REASON}, log=TAIL)],
        words=[TAIL, REASON],
    ),
    ComputeCase(
        "a function succeeds, with a tail",
        call(),
        {"said": "the tail of a success is logged at DEBUG alone, and is in reports"},
        answers=[returning(headers={"x-amz-log-result": "YSBsaW5lIG9mIHRoZSBmdW5jdGlvbg=="})],
        words=[TAIL],
    ),
    ComputeCase(
        "a function fails with a text",
        call(),
        answers=[returning(b'"no such day"', headers={"x-amz-function-error": "Handled"})],
        words=[REASON],
    ),
    ComputeCase(
        "429 once, max_attempts 1",
        call(protocol=ONE_RETRY),
        answers=throttled(429, "TooManyRequestsException"),
    ),
    ComputeCase("429 once", call(), answers=throttled(429, "TooManyRequestsException")),
    ComputeCase(
        "502 EC2Throttled once, max_attempts 1",
        call(protocol=ONE_RETRY),
        answers=throttled(502, "EC2ThrottledException"),
    ),
    ComputeCase(
        "409 ResourceConflict once, max_attempts 1",
        call(protocol=ONE_RETRY),
        {
            "exit": "the function did not start, and the reference does not try again",
            "requests": "as above",
        },
        answers=throttled(409, "ResourceConflictException"),
    ),
    ComputeCase(
        "500 once, max_attempts 1",
        call(protocol=ONE_RETRY),
        {
            "exit": "the function may have run, and the reference calls it again",
            "requests": "as above",
        },
        answers=throttled(500, "ServiceException"),
    ),
    ComputeCase(
        "a payload that is a list",
        call(payload=[1]),
        {"exit": "the schema of the reference takes objects alone", "requests": "as above"},
        answers=[returning()],
    ),
    ComputeCase(
        "a client context and a qualifier",
        call(clientContext={"custom": {"k": "v"}}, qualifier="live"),
        {"exit": NEW_KEYS, "requests": "as above"},
        answers=[returning()],
    ),
    ComputeCase("a task ends with 0", load(), looks=[ended(0)]),
    ComputeCase(
        "a task ends with 1, with a log",
        load(cloudwatchLogGroupName="/ecs/work"),
        looks=[ended(1)],
        ecs=LOGGED,
        words=[LINE],
    ),
    ComputeCase(
        "a log group that is mistyped",
        load(cloudwatchLogGroupName="/ecs/wrok"),
        looks=[ended(0)],
        ecs=LOGGED,
        words=[LINE, "/ecs/wrok"],
    ),
    ComputeCase(
        "a log group that is gone",
        load(cloudwatchLogGroupName="/ecs/work"),
        {"exit": "a log that is gone fails the task of the reference"},
        looks=[ended(0)],
        ecs={
            **LOGGED,
            "errors": {
                "GetLogEvents": [
                    (400, "ResourceNotFoundException", "The specified log group does not exist.")
                ]
                * 9
            },
        },
        words=["The specified log group does not exist."],
    ),
    ComputeCase(
        "a router 0, an app 1",
        load(),
        {"exit": FIRST_DECIDES},
        looks=[ended(0, 1)],
        ecs=ROUTED,
    ),
    ComputeCase(
        "a router 137, an app 0",
        load(),
        {"exit": FIRST_DECIDES},
        looks=[ended(137, 0)],
        ecs=ROUTED,
    ),
    ComputeCase(
        "the overridden container 0, a router 1",
        load(containerOverrides={"name": "app", "command": ["x"]}),
        {"exit": FIRST_DECIDES},
        looks=[ended(1, 0)],
        ecs=ROUTED,
    ),
    ComputeCase(
        "a containerName that is not there",
        load(containerName="nowhere"),
        {"exit": "the first container decides for the reference", "requests": NOT_STOPPED},
        looks=[{"lastStatus": "RUNNING", "startedAt": 1750000000}, ended(0)],
    ),
    ComputeCase(
        "10 s of PROVISIONING, initTimeout 5",
        load(initTimeout=5),
        looks=[*[{"lastStatus": "PROVISIONING"}] * 2, ended(0)],
        ecs={"status": "PROVISIONING"},
    ),
    ComputeCase(
        "PENDING, initTimeout 5",
        load(initTimeout=5),
        {"requests": NOT_STOPPED},
        looks=[{"lastStatus": "PENDING"}],
        ecs={"status": "PENDING"},
    ),
    ComputeCase(
        "a task out of time",
        load(timeout=3),
        {"requests": NOT_STOPPED},
        looks=[{"lastStatus": "RUNNING"}],
    ),
    ComputeCase(
        "no capacity",
        load(),
        {"said": "the reference does not say why"},
        ecs={"refusals": [{"arn": "arn", "reason": "RESOURCE:CPU"}]},
        words=["RESOURCE:CPU"],
    ),
    ComputeCase(
        "no capacity once, retryStart",
        load(retryStart=True),
        {"exit": NEW_KEYS, "requests": "as above"},
        looks=[ended(0)],
        ecs={"shortages": [{"arn": "arn", "reason": "RESOURCE:CPU"}]},
    ),
    ComputeCase(
        "a capacity provider",
        load(runTask={"capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT"}]}),
        {"exit": NEW_KEYS, "requests": "as above"},
        looks=[ended(0)],
    ),
    ComputeCase(
        "overrides of two containers",
        load(containerOverrides=[{"name": "app"}, {"name": "log_router"}], containerName="app"),
        {"exit": "the schema of the reference takes one object", "requests": "as above"},
        looks=[ended(0, 0)],
        ecs=ROUTED,
    ),
    ComputeCase(
        "a batch whose task is out of time",
        {"type": "batch", "tasks": [{"order_id": 1, "task_id": "load", "timeout": 8}]},
        {"requests": NOT_STOPPED},
        looks=[{"lastStatus": "RUNNING", "startedAt": 1750000000}] * 4 + [ended(0)],
        ecs=LOGGED,
        words=[LINE],
        tasks={"load": load(cloudwatchLogGroupName="/ecs/work")},
    ),
]
