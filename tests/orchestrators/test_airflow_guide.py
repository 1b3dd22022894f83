"""The DAG of the guide: its operators, one after the other, as a worker and a triggerer run them.

test_airflow.py has the same four in all of Airflow's processes.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time import task_runner

from tests.orchestrators.supervisor import Supervisor
from tests.support.fake_ecs import FakeEcs
from tests.support.fake_lambda import FakeLambda, returning
from tests.support.markdown_files import example
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store, store

DAY = "2026-01-31"


@pytest.fixture
async def s3(moto_url: str) -> AsyncIterator[Store]:
    async with store(moto_url, "moto") as made:
        yield made


@pytest.fixture
async def functions() -> AsyncIterator[FakeLambda]:
    async with FakeLambda(functions={"nightly-report": returning(b'{"rows": 7}')}) as server:
        yield server


@pytest.fixture
async def ecs() -> AsyncIterator[FakeEcs]:
    async with FakeEcs(log=["loading"], log_group="/ecs/nightly-load") as server:
        yield server


@pytest.fixture
def surroundings(
    s3: Store, functions: FakeLambda, ecs: FakeEcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a triggerer has in its environment, and the connection that the DAG names."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", functions.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECS", ecs.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", ecs.url)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", f"aws://{KEY}:{SECRET}@")
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(), raising=False)


async def done(operator: Any) -> Any:
    """Run an operator until it defers, its trigger until it has told, and the operator's end."""
    ti = SimpleNamespace(
        dag_id="night",
        run_id="r",
        task_id=operator.task_id,
        map_index=-1,
        id=uuid.uuid4(),
    )
    context: Any = {"ti": ti, "ds": DAY}
    operator.render_template_fields(context)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    trigger = deferred.value.trigger
    trigger.trigger_id = 1
    event = await anext(trigger.run())
    return getattr(operator, deferred.value.method_name)(context, event.payload)


async def end_first(ecs: FakeEcs) -> None:
    await ecs.until(lambda: ecs.calls["DescribeTasks"] > 0)
    ecs.end(next(iter(ecs.tasks)), 0)


@pytest.mark.usefixtures("surroundings")
async def test_operators_of_the_guide_do_a_night_s_work(
    s3: Store, functions: FakeLambda, ecs: FakeEcs
) -> None:
    guide = example("from airflow.sdk import DAG")
    for bucket in ("inbox", "reports"):
        await s3.bucket(bucket)
    await s3.put("inbox", "ready/go.flg")
    await s3.put("inbox", f"src/{DAY}/a.csv", b"one")
    order = [guide.there, guide.hauled, guide.loaded, guide.told]
    for before, after in pairwise(order):
        assert before.downstream_task_ids == {after.task_id}
    ending = asyncio.create_task(end_first(ecs))
    reports = {operator.task_id: await done(operator) for operator in order}
    await ending
    assert await s3.contents("reports") == {f"{DAY}/a.csv": b"one"}
    assert ecs.overrides[0][0]["command"] == ["load", "--day", DAY]
    assert reports["tell"]["payload"] == {"rows": 7}
    assert [each.body for each in functions.invocations] == [b'{"day":"2026-01-31"}']
