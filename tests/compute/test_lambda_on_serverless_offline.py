"""Lambda as others stand in for it: serverless-offline (npm), with functions that really run."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator

import anyio
import pytest

import aiohaul
from tests.support import servers
from tests.support.compute_fixtures import KEYS, REGION

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: The last ones that ask for no account.
PACKAGES = ("serverless@3.40.0", "serverless-offline@13.10.1")
SERVICE = {
    "service": "work",
    "provider": {"name": "aws", "runtime": "nodejs20.x", "region": REGION, "timeout": 900},
    "plugins": ["serverless-offline"],
    "functions": {
        name: {"name": name, "handler": f"handler.{name}"} for name in ("echo", "slow", "broken")
    },
}
HANDLER = """
exports.echo = async (event) => ({ got: event });
exports.slow = async (event) => {
  await new Promise((done) => setTimeout(done, event.seconds * 1000));
  return { slept: event.seconds };
};
exports.broken = async () => { throw new TypeError("no such day"); };
"""


@pytest.fixture(scope="module")
def offline(
    tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: Callable[[], int]
) -> Iterator[str]:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("needs node and npm")
    home = tmp_path_factory.mktemp("serverless")
    where = {"host": "127.0.0.1", "lambdaPort": unused_tcp_port_factory()}
    service = SERVICE | {"custom": {"serverless-offline": where}}
    (home / "serverless.json").write_text(json.dumps(service))
    (home / "handler.js").write_text(HANDLER)
    install = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", *PACKAGES]
    done = subprocess.run(install, cwd=home, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"npm could not install serverless-offline: {done.stderr[-300:]}")
    with servers.serverless(home) as url:
        yield url


@pytest.fixture
async def functions(offline: str) -> AsyncIterator[aiohaul.LambdaHandler]:
    async with aiohaul.Session(region=REGION, endpoint_url=offline, **KEYS) as session:
        yield session.lambda_()


async def test_function_gets_its_payload_and_its_answer_comes_back(
    functions: aiohaul.LambdaHandler,
) -> None:
    answer = await functions.invoke("echo", {"day": 1})
    assert (answer.status, answer.payload) == (200, {"got": {"day": 1}})
    event = await functions.invoke("echo", {"day": 1}, invocation_type="Event")
    assert (event.status, event.payload) == (202, None)


async def test_payload_of_a_megabyte_goes_and_comes(functions: aiohaul.LambdaHandler) -> None:
    payload = {"text": "x" * 1_000_000}
    assert (await functions.invoke("echo", payload)).payload == {"got": payload}


async def test_function_that_raises_and_one_that_does_not_exist(
    functions: aiohaul.LambdaHandler,
) -> None:
    with pytest.raises(aiohaul.FunctionError, match="no such day"):
        await functions.invoke("broken")
    with pytest.raises(aiohaul.FunctionNotFoundError):
        await functions.invoke("nothing")


async def test_calls_are_held_together_cancelled_at_once_and_followed_by_others(
    functions: aiohaul.LambdaHandler,
) -> None:
    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(functions.invoke("slow", {"seconds": 1})) for _ in range(20)]
    assert [call.result().payload for call in calls] == [{"slept": 1}] * 20
    with pytest.raises(aiohaul.OutcomeUnknownError, match="may still be running"):
        await functions.invoke("slow", {"seconds": 60}, timeout=1)
    call = asyncio.create_task(functions.invoke("slow", {"seconds": 60}))
    await functions.invoke("echo")
    call.cancel()
    with pytest.raises(asyncio.CancelledError), anyio.fail_after(1):
        await call
    assert (await functions.invoke("echo", {"day": 2})).payload == {"got": {"day": 2}}
