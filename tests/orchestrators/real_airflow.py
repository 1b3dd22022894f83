"""A whole Airflow on SQLite: API server, scheduler, DAG processor and triggerer as processes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DAGS = Path(__file__).with_name("dags")
_AIRFLOW = Path(sys.executable).with_name("airflow")
#: Seconds between two looks at Airflow's API: it has no other way to tell.
_LOOK = 0.5


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass
class Airflow:
    home: Path
    port: int
    variables: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    token: str = ""

    def start(self, name: str, called: str = "") -> None:
        """Start a process of Airflow; another of its kind beside it has a name of its own."""
        own = {"AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port())} if called else {}
        called = called or name
        log = (self.home / f"{called}.log").open("ab")
        with log:
            self.processes[called] = subprocess.Popen(
                ["nice", str(_AIRFLOW), name],  # noqa: S607  # as the machine has it
                env=self.variables | own,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End a process of Airflow, and what it has started; kill what does not end in order."""
        if (process := self.processes.pop(name, None)) is None:
            return
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text(errors="replace")

    def call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "content-type": "application/json",
                "authorization": f"Bearer {self.token}",
            },
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        return await asyncio.to_thread(self.call, method, path, body)

    async def until(self, found: Callable[[], Any], what: str, within: float = 120) -> Any:
        """Look until there is something."""
        async with asyncio.timeout(within):
            while True:
                try:
                    if (value := await asyncio.to_thread(found)) not in (None, False):
                        return value
                except (urllib.error.URLError, ConnectionError, KeyError):
                    pass  # not there yet
                for name, process in self.processes.items():
                    assert process.poll() is None, f"{name} ended: {self.log(name)[-3000:]}"
                await asyncio.sleep(_LOOK)
        raise AssertionError(what)

    async def run(self, dag: str, conf: dict[str, Any]) -> Run:
        """Start a run of a DAG."""
        body = {"logical_date": None, "conf": conf}
        made = await self.ask("POST", f"/api/v2/dags/{dag}/dagRuns", body)
        return Run(self, dag, made["dag_run_id"])


@dataclass(frozen=True)
class Run:
    airflow: Airflow
    dag: str
    id: str

    @property
    def path(self) -> str:
        return f"/api/v2/dags/{self.dag}/dagRuns/{urllib.parse.quote(self.id, safe='')}"

    async def until(self, *states: str, task: str | None = None, within: float = 120) -> str:
        """Wait until the run, or a task of it, has one of these states."""
        path = self.path if task is None else f"{self.path}/taskInstances/{task}"

        def state() -> str | None:
            now = self.airflow.call("GET", path)["state"]
            return now if now in states else None

        value: str = await self.airflow.until(state, f"{states}", within)
        return value

    async def task(self, task: str) -> Any:
        return await self.airflow.ask("GET", f"{self.path}/taskInstances/{task}")

    async def xcom(self, task: str, key: str = "return_value") -> Any:
        path = f"{self.path}/taskInstances/{task}/xcomEntries/{key}?deserialize=true"
        return (await self.airflow.ask("GET", path))["value"]

    async def set(self, task: str, state: str) -> None:
        await self.airflow.ask("PATCH", f"{self.path}/taskInstances/{task}", {"new_state": state})

    async def clear(self, task: str) -> None:
        body = {"dry_run": False, "task_ids": [task], "dag_run_id": self.id, "only_failed": False}
        path = f"/api/v2/dags/{self.dag}/clearTaskInstances"
        await self.airflow.ask("POST", path, body)

    async def log(self, task: str, try_number: int = 1) -> str:
        path = f"{self.path}/taskInstances/{task}/logs/{try_number}?full_content=true"
        answer = await self.airflow.ask("GET", path)
        return json.dumps(answer["content"])


@contextmanager
def airflow(home: Path) -> Iterator[Airflow]:
    port = free_port()
    options = {
        "CORE__DAGS_FOLDER": str(DAGS),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "API__PORT": str(port),
        "API__HOST": "127.0.0.1",
        "API__BASE_URL": f"http://127.0.0.1:{port}",
        "API__WORKERS": "1",
        "API_AUTH__JWT_SECRET": "a secret of the tests, long enough for HS512: " + "x" * 40,
        "LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
        "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "3600",
        "TRIGGERER__JOB_HEARTBEAT_SEC": "1",
        "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "4",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    # Of the triggerer's environment, because definitions must not have keys.
    keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "sEcReTkEy"}
    variables = os.environ | keys | {f"AIRFLOW__{name}": value for name, value in options.items()}
    made = Airflow(home, port, variables | {"AIRFLOW_HOME": str(home)})
    subprocess.run(
        [_AIRFLOW, "db", "migrate"],
        env=made.variables,
        check=True,
        capture_output=True,
        timeout=300,
    )
    with ExitStack() as stack:
        for name in ("api-server", "scheduler", "dag-processor", "triggerer"):
            made.start(name)
            stack.callback(made.stop, name)
        yield made


async def ready(made: Airflow) -> AsyncIterator[None]:
    """Wait until Airflow answers, and knows the DAGs."""
    written = [re.findall(r'DAG\("(\w+)"', file.read_text()) for file in DAGS.glob("*.py")]
    dags = {each for names in written for each in names}

    def known() -> bool:
        if not made.token:
            made.token = made.call("GET", "/auth/token")["access_token"]
        found = {each["dag_id"] for each in made.call("GET", "/api/v2/dags")["dags"]}
        return dags <= found

    await made.until(known, "the DAGs")
    yield
