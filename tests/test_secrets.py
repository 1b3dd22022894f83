"""Everything is run, at the loudest, and all that it says is searched for secrets."""

from __future__ import annotations

import base64
import json
import logging
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

import aiohaul
from aiohaul.logs import JsonFormatter
from compute_fixtures import REGION
from fake_ecs import FakeEcs
from fake_lambda import FakeLambda, echoing, failing, resetting, returning
from gateway import Gateway
from secrets_of_moto import create_secret
from store import Store
from test_transfer import local, source, to, transfer

SECRET_KEY = "kEy+0/very=secret"
TOKEN = "tOkEn+1/very=secret&"
EXTERNAL_ID = "eXtErNaL+2/very=secret"
PAYLOAD = "pAyLoAd+3/very secret"
PARAMETER = "pArAmEtEr+4/very secret"
VALUE = "vAlUe+5/very secret"
VARIABLE = "vArIaBlE+6/very secret"
SIGNATURE = "sIgNaTuRe7verysecret"
ROLE = "arn:aws:iam::012345678900:role/night"
LAMBDA = "opentaskpy.addons.aws.remotehandlers.lambda.LambdaExecution"


@dataclass
class Said:
    """All that was said, by whom.

    Attributes:
        secrets: what must not be in it.
        texts: by where they come from.
    """

    secrets: set[str] = field(
        default_factory=lambda: {
            *(SECRET_KEY, TOKEN, EXTERNAL_ID, PAYLOAD, PARAMETER, VALUE, VARIABLE, SIGNATURE)
        }
    )
    texts: list[tuple[str, str]] = field(default_factory=list)

    def add(self, where: str, *texts: object) -> None:
        self.texts.extend((where, str(text)) for text in texts)

    def error(self, error: BaseException | None) -> None:
        """What a traceback shows, and every error beneath, attributes and all."""
        if error is not None:
            self.add("traceback", "".join(traceback.format_exception(error)))
        while error is not None:
            self.add("error", error, repr(error), error.args)
            if isinstance(error, aiohaul.HaulError):
                self.add("attributes", repr(vars(error)))
            error = error.__cause__ or error.__context__

    def found(self) -> list[tuple[str, str]]:
        return [
            (where, form)
            for where, text in self.texts
            for secret in self.secrets
            for form in forms(secret)
            if form in text
        ]


def forms(secret: str) -> set[str]:
    raw = secret.encode()
    return {
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        # Wherever it begins within the encoded bytes: the part that does not depend on it.
        *(base64.b64encode(b"\0" * n + raw).decode()[4:-4] for n in range(3)),
    }


class Everything(logging.Handler):
    def __init__(self, said: Said) -> None:
        super().__init__(0)
        self._said = said
        self._json = JsonFormatter()
        self.loggers: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.loggers.add(record.name)
        where = f"log of {record.name}"
        self._said.add(where, record.getMessage(), self._json.format(record), repr(vars(record)))
        if record.exc_info is not None:
            self._said.error(record.exc_info[1])


@pytest.fixture
def said() -> Iterator[Said]:
    """Every logger at its loudest, and every warning."""
    made = Said()
    handler = Everything(made)
    root = logging.getLogger()
    names = [*logging.Logger.manager.loggerDict, "aiohaul", "botocore", "aiobotocore", "aiohttp"]
    loggers = [root, *map(logging.getLogger, names)]
    before = [(logger, logger.level) for logger in loggers]
    for logger in loggers:
        logger.setLevel(1)
    root.addHandler(handler)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield made
        made.add("warning", *(each.message for each in warned))
    root.removeHandler(handler)
    for logger, level in before:
        logger.setLevel(level)
    assert made.texts
    assert made.found() == []


async def ended(said: Said, task: Awaitable[Any], *expected: type[Exception]) -> Any:
    """What it returned or raised, said in every way that it can be."""
    try:
        made: Any = await task
    except expected as error:
        said.error(error)
        return error
    assert not expected
    said.add("repr", repr(made), made)
    return made


@pytest.fixture
async def loud(
    proxied: tuple[Gateway, Store], said: Said, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Gateway, Store]]:
    gateway, s3 = proxied
    monkeypatch.setattr("aiohaul.aws.service.pause_before", lambda *_: 0.0)

    def note(request: Any) -> None:
        token = request.headers.get("x-amz-security-token")
        if token:
            said.secrets.add(token)

    gateway.noting = note
    yield gateway, s3
    assert TOKEN in said.secrets


def keyed(s3: Store, **more: Any) -> dict[str, Any]:
    return s3.protocol(secret_access_key=SECRET_KEY, session_token=TOKEN, **more)


@pytest.mark.parametrize("direct", ["0", "1"])
@pytest.mark.parametrize("role", [False, True], ids=["keys", "role"])
async def test_transfers(  # noqa: PLR0917  # fixtures
    loud: tuple[Gateway, Store],
    said: Said,
    tmp_path: Path,
    role: bool,
    direct: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gateway, s3 = loud
    monkeypatch.setenv("AIOHAUL_DIRECT", direct)
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {f"src/{n}": b"x" for n in range(3)})
    await s3.put(inbox, "src/large", b"x" * (17 * 2**20))
    more = {"assume_role_arn": ROLE, "assume_role_external_id": EXTERNAL_ID} if role else {}
    protocol = keyed(s3, **more)
    (tmp_path / "in").mkdir()
    definition = transfer(
        source(s3, inbox, protocol=protocol),
        to(s3, out, protocol=protocol, flags={"fullPath": "flag"}),
        to(s3, out, protocol=protocol, directory="p", transferType="proxy"),
        local(tmp_path / "in"),
    )
    journal = tmp_path / "journal.db"
    gateway.rule("^COPY", times=1, status=503, code="SlowDown")
    gateway.rule("^PUT", times=1, drop=True)
    report = await ended(said, aiohaul.run(definition, journal=journal))
    said.add("report", json.dumps(report.as_dict()))
    definition["destination"].append(to(s3, "absent", protocol=protocol))
    failed = await ended(said, aiohaul.run(definition, journal=journal), aiohaul.TransferError)
    said.add("report", json.dumps(failed.report.as_dict()))
    for file in tmp_path.glob("journal*"):
        said.add("journal", file.read_bytes().decode("latin1"))
    gateway.rule("GET /.*list-type", status=403, code="SignatureDoesNotMatch")
    await ended(said, aiohaul.run(definition), aiohaul.CredentialsError)
    gateway.rules.clear()
    gateway.rule("GET /.*list-type", cut=True)
    await ended(said, aiohaul.run(definition), aiohaul.EndpointError)
    if role:
        gateway.rule("^POST /$", status=403, code="AccessDenied")
        await ended(said, aiohaul.run(definition), aiohaul.AccessDeniedError)


async def test_definitions_that_are_wrong(said: Said, moto_s3: Store) -> None:
    for more in (
        {"session_token": 7, "secret_access_key": [SECRET_KEY]},
        {"unknown": TOKEN},
        {"secret_access_key": SECRET_KEY, "access_key_id": None},
    ):
        protocol = {**moto_s3.protocol(), **more}
        definition = {"type": "transfer", "source": source(moto_s3, "b", protocol=protocol)}
        await ended(said, aiohaul.run(definition), aiohaul.DefinitionError)
    settings = aiohaul.Settings(
        access_key_id="a",
        secret_access_key=SECRET_KEY,
        session_token=TOKEN,
        role_arn=ROLE,
        role_external_id=EXTERNAL_ID,
    )
    said.add("repr", repr(settings), f"{settings}")
    async with aiohaul.Session(region=REGION) as session:
        said.add("repr", session, session.s3(settings), vars(session.ssm(settings)))
        said.add("repr", aiohaul.Destination(bucket="b", settings=settings))


async def test_functions(said: Said, functions: FakeLambda) -> None:
    functions.functions["echo"] = echoing
    functions.functions["fail"] = failing({"errorMessage": "no", "errorType": "E"})
    functions.functions["reset"] = resetting
    functions.functions["odd"] = returning(b"{", status=500)
    for name, error in (
        ("echo", None),
        ("fail", aiohaul.FunctionError),
        ("reset", aiohaul.OutcomeUnknownError),
        ("odd", aiohaul.OutcomeUnknownError),
        ("absent", aiohaul.FunctionNotFoundError),
        ("no name", aiohaul.DefinitionError),
    ):
        definition = {
            "type": "execution",
            "functionArn": name,
            "invocationType": "RequestResponse",
            "payload": {"password": PAYLOAD},
            "protocol": {
                "name": LAMBDA,
                "access_key_id": "a",
                "secret_access_key": SECRET_KEY,
                "session_token": TOKEN,
                "region_name": REGION,
                "endpoint_url": functions.url,
            },
        }
        await ended(said, aiohaul.run(definition), *([error] if error else []))
    keys: dict[str, Any] = {"access_key_id": "a", "secret_access_key": SECRET_KEY}
    async with aiohaul.Session(region=REGION, endpoint_url=functions.url, **keys) as session:
        await ended(said, session.lambda_().invoke("echo", PAYLOAD))
        for wrong in ({PAYLOAD}, f"\ud800{PAYLOAD}", {PAYLOAD: float("nan")}):
            await ended(said, session.lambda_().invoke("echo", wrong), aiohaul.PayloadError)


async def test_tasks(said: Said, ecs: FakeEcs) -> None:
    keys: dict[str, Any] = {"access_key_id": "a", "secret_access_key": SECRET_KEY}
    overrides: Any = [{"name": "main", "environment": [{"name": "PASSWORD", "value": VARIABLE}]}]
    async with aiohaul.Session(region=REGION, endpoint_url=ecs.url, **keys) as session:
        fargate = session.fargate(interval=0.02)
        network = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
        refusal: Any = {"failures": [{"reason": "RESOURCE:MEMORY"}]}
        ecs.refusals.append(refusal)
        run = fargate.run("batch", "work", network=network, overrides=overrides, timeout=1)
        await ended(said, run, aiohaul.HaulError)
        wrong: Any = [{"name": "main", "environment": [{"name": "PASSWORD", "value": [VARIABLE]}]}]
        run = fargate.run("batch", "work", network=network, overrides=wrong, timeout=1)
        await ended(said, run, aiohaul.HaulError)


@pytest.fixture
def moto_with_secret(moto: str) -> str:
    create_secret(moto, "night/database", json.dumps({"password": VALUE}))
    return moto


async def test_parameters_and_secrets(moto_with_secret: str, said: Said) -> None:
    moto = moto_with_secret
    keys: dict[str, Any] = {
        "access_key_id": "a",
        "secret_access_key": SECRET_KEY,
        "session_token": TOKEN,
    }
    async with aiohaul.Session(region=REGION, endpoint_url=moto, **keys) as session:
        ssm, secrets = session.ssm(), session.secrets()
        await ended(said, ssm.put("/night/password", PARAMETER))
        assert (await ended(said, ssm.get("/night/password"))).value == PARAMETER
        await ended(said, ssm.get("/night/absent"), aiohaul.ParameterNotFoundError)
        wrong: Any = [PARAMETER]
        await ended(said, ssm.put("/night/password", wrong), aiohaul.HaulError)
        again = ssm.put("/night/password", PARAMETER, overwrite=False)
        await ended(said, again, aiohaul.ServiceError)
        found = await ended(said, secrets.get("night/database"))
        assert VALUE in found.value
        with pytest.raises(aiohaul.SecretValueError) as nothing:
            found.select("$.absent")
        said.error(nothing.value)
        await ended(said, secrets.put("night/database", VALUE))
        await ended(said, secrets.get("night/absent"), aiohaul.SecretNotFoundError)
        with pytest.raises(aiohaul.SecretValueError) as no_json:
            (await secrets.get("night/database")).select("$.absent")
        said.error(no_json.value)


async def test_presigned_urls(said: Said, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:9/b/k?X-Amz-Credential=a&X-Amz-Signature={SIGNATURE}"

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise OSError(f"GET {url} failed")

    async with aiohaul.Session(region=REGION) as session:
        copy = session.s3().copy(
            [aiohaul.Stream("a", broken())], [aiohaul.LocalDestination(directory=tmp_path)]
        )
        with pytest.raises(aiohaul.TransferError) as failed:
            await copy
        # What the application's own error says is the application's: it is beneath, not here.
        said.add("error", failed.value, repr(failed.value.report))
        said.add("report", json.dumps(failed.value.report.as_dict()))


def test_searching_finds_every_form() -> None:
    for form in forms(TOKEN):
        said = Said()
        said.add("somewhere", f"before{form}after")
        assert said.found()
    said = Said()
    said.add("basic", base64.b64encode(f"user:{SECRET_KEY}".encode()).decode())
    assert said.found()
