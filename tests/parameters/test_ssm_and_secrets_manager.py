"""SSM and Secrets Manager on moto, and reads that are shared."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aiohaul
from aiohaul.parameters.ssm import GET_BATCH, batches
from aiohaul.single_flight import SingleFlight
from tests.support.compute_fixtures import KEYS, REGION
from tests.support.fake_ssm import FakeSsm

# SSM


@pytest.mark.smoke
async def test_parameter_is_put_and_got(moto_session: aiohaul.Session) -> None:
    ssm = moto_session.ssm()
    assert await ssm.put("/app/password", "hunter2") == 1
    assert await ssm.put("/app/password", "hunter3") == 2
    found = await ssm.get("/app/password")
    assert (found.value, found.type, found.version) == ("hunter3", "SecureString", 2)
    assert found.last_modified is not None
    assert found.last_modified.utcoffset() is not None
    assert (await ssm.get("/app/password:1")).value == "hunter2"
    assert (await ssm.get("/app/password", decrypt=False)).value != "hunter3"


async def test_parameter_that_exists_is_overwritten_only_if_allowed(
    moto_session: aiohaul.Session,
) -> None:
    ssm = moto_session.ssm()
    await ssm.put("/app/name", "a", type="String")
    with pytest.raises(aiohaul.ServiceError) as e:
        await ssm.put("/app/name", "b", type="String", overwrite=False)
    assert e.value.code == "ParameterAlreadyExists"


async def test_missing_parameters_are_named(moto_session: aiohaul.Session) -> None:
    ssm = moto_session.ssm()
    await ssm.put("/app/there", "x", type="String")
    with pytest.raises(aiohaul.ParameterNotFoundError, match="on /app/a, /app/b failed"):
        await ssm.get_many(["/app/a", "/app/there", "/app/b"])


async def test_many_parameters_are_read_ten_at_a_time_in_the_order_of_asking(
    moto_session: aiohaul.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssm = moto_session.ssm()
    names = [f"/many/{number:02}" for number in range(25)]
    for name in names:
        await ssm.put(name, f"value of {name}", type="String")
    asked = await _counted(moto_session, "ssm", monkeypatch)
    found = await ssm.get_many([*reversed(names), names[0]])
    assert list(found) == names[::-1]
    assert found["/many/07"].value == "value of /many/07"
    assert [len(each["Names"]) for each in asked] == [10, 10, 5]


ARN = "arn:aws:ssm:eu-west-1:000000000000:parameter"


@pytest.mark.parametrize("order", [1, -1])
async def test_versions_of_one_parameter_are_told_apart_without_selectors(order: int) -> None:
    async with (
        FakeSsm(versions={"/app/p": ["one", "two", "three"], "q": ["x"]}) as server,
        aiohaul.Session(region=REGION, endpoint_url=server.url, **KEYS) as session,
    ):
        names = ["/app/p", "/app/p:1", f"{ARN}/app/p:2", "q:1", f"{ARN}/q", "/app/p:3"][::order]
        found = await session.ssm().get_many(names)
        assert list(found) == names
        values = {name: parameter.value for name, parameter in found.items()}
        assert values == dict(
            zip(names, ["three", "one", "two", "x", "x", "three"][::order], strict=True)
        )
        with pytest.raises(aiohaul.ParameterNotFoundError, match="on /app/p:9 failed"):
            await session.ssm().get("/app/p:9")
        server.knows_versions = False
        with pytest.raises(aiohaul.ParameterNotFoundError, match="on /app/p:1 failed"):
            await session.ssm().get_many(["q", "/app/p:1"])


_names = st.from_regex(r"/?[ab]{1,2}(/[ab])?(:[12])?", fullmatch=True)


@given(st.lists(_names | _names.map(lambda name: f"{ARN}/{name.removeprefix('/')}"), unique=True))
def test_names_are_asked_for_once_each_and_no_two_of_a_parameter_together(names: list[str]) -> None:
    asked = [list(batch.values()) for batch in batches(names)]
    assert sorted(name for batch in asked for name in batch) == sorted(names)
    for batch in asked:
        assert 1 <= len(batch) <= GET_BATCH
        plain = [name.removeprefix(ARN).removeprefix("/").partition(":")[0] for name in batch]
        assert len(set(plain)) == len(plain)


async def test_parameters_of_a_path(moto_session: aiohaul.Session) -> None:
    ssm = moto_session.ssm()
    for number in range(12):
        await ssm.put(f"/tree/{number:02}", "x")
    await ssm.put("/tree/deep/er", "y")
    assert len(await ssm.get_by_path("/tree/")) == 13
    assert len(await ssm.get_by_path("/tree/", recursive=False)) == 12
    assert await ssm.get_by_path("/nothing/") == {}


# Secrets Manager


@pytest.mark.smoke
async def test_secret_is_got_and_put(moto_session: aiohaul.Session, moto_secrets: Any) -> None:
    await moto_secrets.create_secret(Name="db", SecretString="old")
    secrets = moto_session.secrets()
    assert (await secrets.get("db")).value == "old"
    version = await secrets.put("db", "new")
    found = await secrets.get("db")
    assert (found.name, found.value, found.version_id) == ("db", "new", version)
    assert (await secrets.get("db", version_stage="AWSPREVIOUS")).value == "old"


async def test_secret_that_does_not_exist(moto_session: aiohaul.Session) -> None:
    secrets = moto_session.secrets()
    for attempt in (
        secrets.get("none"),
        secrets.put("none", "x"),
        secrets.put("n", "x", min_age=1),
    ):
        with pytest.raises(aiohaul.SecretNotFoundError, match="Create the secret"):
            await attempt


async def test_secret_of_bytes_is_refused(moto_session: aiohaul.Session, moto_secrets: Any) -> None:
    await moto_secrets.create_secret(Name="key", SecretBinary=b"\x00\x01")
    with pytest.raises(aiohaul.SecretValueError, match="bytes"):
        await moto_session.secrets().get("key")


async def test_secret_that_changed_a_moment_ago_is_left_as_it_is(
    moto_session: aiohaul.Session, moto_secrets: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await moto_secrets.create_secret(Name="db", SecretString="first")
    secrets = moto_session.secrets()
    assert await secrets.put("db", "second", min_age=600) is None
    assert "was not written" in caplog.text
    assert (await secrets.get("db")).value == "first"
    assert await secrets.put("db", "third", min_age=0.000001) is not None
    assert (await secrets.get("db")).value == "third"


def _secret(value: str) -> aiohaul.Secret:
    return aiohaul.Secret(name="db", value=value, version_id="1", created=None)


def test_json_path_into_a_secret() -> None:
    secret = _secret('{"users": [{"name": "a"}, {"name": "b"}]}')
    assert secret.select("$.users[*].name") == ["a", "b"]
    with pytest.raises(aiohaul.SecretValueError, match=r"no value at \$.password"):
        secret.select("$.password")
    with pytest.raises(aiohaul.SecretValueError, match="not a JSONPath"):
        secret.select("$$[")


def test_secret_that_is_not_json_is_not_shown() -> None:
    with pytest.raises(aiohaul.SecretValueError, match="not JSON") as e:
        _secret("hunter2").select("$.a")
    assert "hunter2" not in str(e.value) + repr(e.value)
    assert e.value.__cause__ is None


def test_json_path_without_its_library_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "jsonpath_ng.parser", None)
    with pytest.raises(aiohaul.MissingExtraError, match=r"aiohaul\[otf\]"):
        _secret("{}").select("$.a")


# Values stay where they are


async def test_values_are_in_no_log_repr_or_error(
    moto_session: aiohaul.Session, moto_secrets: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await moto_secrets.create_secret(Name="db", SecretString="nothing secret yet")
    caplog.set_level(logging.DEBUG)
    ssm, secrets = moto_session.ssm(), moto_session.secrets()
    await ssm.put("/app/password", "hunter2")
    await secrets.put("db", "hunter2")
    shown = repr(await ssm.get("/app/password")) + repr(await secrets.get("db"))
    shown += repr(await ssm.get_by_path("/app/"))
    with pytest.raises(aiohaul.HaulError) as e:
        await ssm.put("/app/password", ["hunter2, type hunter2"])  # type: ignore[arg-type]
    shown += str(e.value) + repr(e.value) + repr(e.value.__cause__)
    assert "Parameter" in str(e.value)
    assert "hunter2" not in shown + caplog.text


# Shared reads


async def test_equal_reads_at_the_same_time_share_one_request(
    moto_session: aiohaul.Session, moto_secrets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await moto_secrets.create_secret(Name="db", SecretString="x")
    await moto_session.ssm().put("/app/a", "y")
    secret_reads = await _counted(moto_session, "secretsmanager", monkeypatch)
    parameter_reads = await _counted(moto_session, "ssm", monkeypatch)
    secrets = await asyncio.gather(*(moto_session.secrets().get("db") for _ in range(50)))
    parameters = await asyncio.gather(*(moto_session.ssm().get("/app/a") for _ in range(50)))
    assert {each.value for each in secrets} == {"x"}
    assert {each.value for each in parameters} == {"y"}
    assert (len(secret_reads), len(parameter_reads)) == (1, 1)
    await moto_session.ssm().get("/app/a", decrypt=False)
    await moto_session.secrets().get("db")
    assert (len(secret_reads), len(parameter_reads)) == (2, 2)


class _Reading:
    """A read that the test lets go on."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0
        self.under_way = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        self.under_way.set()
        await self.go_on.wait()
        self.ended += 1
        return self.ended


async def test_shared_read_does_not_die_with_the_first_who_waits() -> None:
    reads, reading = SingleFlight(), _Reading()
    waiting = [asyncio.create_task(reads.read("a", reading)) for _ in range(5)]
    await reading.under_way.wait()
    reading.under_way.clear()
    waiting[0].cancel()
    await reading.under_way.wait()
    reading.go_on.set()
    assert await asyncio.gather(*waiting[1:]) == [1] * 4
    assert (reading.begun, reading.ended) == (2, 1)
    assert reads._reads == {}


async def test_cancelling_one_who_only_waits_changes_nothing() -> None:
    reads, reading = SingleFlight(), _Reading()
    waiting = [asyncio.create_task(reads.read("a", reading)) for _ in range(3)]
    await reading.under_way.wait()
    waiting[1].cancel()
    reading.go_on.set()
    assert await waiting[0] == await waiting[2] == 1
    assert reading.begun == 1


async def test_nothing_is_left_when_all_who_wait_are_cancelled() -> None:
    reads, reading = SingleFlight(), _Reading()
    waiting = [asyncio.create_task(reads.read("a", reading)) for _ in range(3)]
    await reading.under_way.wait()
    for each in waiting:
        each.cancel()
    await asyncio.wait(waiting)
    gc.collect()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert (reads._reads, reading.ended) == ({}, 0)


async def test_who_asks_after_the_answer_reads_anew() -> None:
    reads, reading = SingleFlight(), _Reading()
    reading.go_on.set()
    assert await reads.read("a", reading) == 1
    assert await reads.read("a", reading) == 2


async def test_failure_is_shared_too() -> None:
    reads, begun, go_on = SingleFlight(), [], asyncio.Event()

    async def failing() -> None:
        begun.append(1)
        await go_on.wait()
        raise aiohaul.HaulError("no")

    waiting = [asyncio.create_task(reads.read("a", failing)) for _ in range(3)]
    await asyncio.sleep(0)
    go_on.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(each) for each in outcomes] == ["no"] * 3
    assert begun == [1]


async def test_parameter_of_a_tier(moto_session: aiohaul.Session) -> None:
    sent = await _sent(moto_session, "ssm")
    ssm = moto_session.ssm()
    await ssm.put("/app/long", "x" * 5000, type="String", tier="Advanced")
    assert (await ssm.get("/app/long")).value == "x" * 5000
    await ssm.put("/app/short", "x", type="String")
    assert sent[0]["Tier"] == "Advanced"
    assert "Tier" not in sent[-1]


async def test_secret_is_created_and_read_by_its_versions(
    moto_session: aiohaul.Session,
) -> None:
    sent = await _sent(moto_session, "secretsmanager")
    secrets = moto_session.secrets()
    first = await secrets.create(
        "night/new", "one", description="a test", kms_key_id="alias/night", tags={"night": "1"}
    )
    assert sent[0] | {"ClientRequestToken": ""} == {
        "Name": "night/new",
        "SecretString": "one",
        "ClientRequestToken": "",
        "Description": "a test",
        "KmsKeyId": "alias/night",
        "Tags": [{"Key": "night", "Value": "1"}],
    }
    second = await secrets.put("night/new", "two")
    assert second is not None
    assert (await secrets.get("night/new", version_id=first)).value == "one"
    assert (await secrets.get("night/new", version_id=second)).value == "two"
    assert (await secrets.get("night/new", version_stage="AWSPREVIOUS")).value == "one"
    with pytest.raises(aiohaul.ServiceError) as e:
        await secrets.create("night/new", "three")
    assert e.value.code == "ResourceExistsException"


async def test_secret_of_bytes(moto_session: aiohaul.Session) -> None:
    secrets = moto_session.secrets()
    first = await secrets.create("night/key", b"\x00\xff")
    assert await secrets.get_bytes("night/key") == b"\x00\xff"
    await secrets.put("night/key", b"new")
    assert await secrets.get_bytes("night/key") == b"new"
    assert await secrets.get_bytes("night/key", version_id=first) == b"\x00\xff"
    with pytest.raises(aiohaul.SecretValueError, match="get_bytes"):
        await secrets.get("night/key")
    await secrets.create("night/text", "text")
    with pytest.raises(aiohaul.SecretValueError, match="is text"):
        await secrets.get_bytes("night/text")


async def _sent(session: aiohaul.Session, service: str) -> list[dict[str, Any]]:
    """The parameters of every request to a service, as botocore is given them."""
    door: Any = await session._clients.service(service)
    sent: list[dict[str, Any]] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        sent.append(dict(params))

    door._backend._client.meta.events.register("provide-client-params", note)
    return sent


async def _counted(
    session: aiohaul.Session, service: str, monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, Any]]:
    """The parameters of every request to a service from now on."""
    door: Any = await session._clients.service(service)
    call, seen = door.call, list[dict[str, Any]]()

    async def counting(operation: str, target: str, /, **parameters: Any) -> Any:
        seen.append(parameters)
        return await call(operation, target, **parameters)

    monkeypatch.setattr(door, "call", counting)
    return seen
