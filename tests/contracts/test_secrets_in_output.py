"""Everything is run, at the loudest, and all that it says is searched for secrets."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

import pytest
from botocore.exceptions import ClientError
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import aiohaul
from aiohaul.aws.errors import as_botocore
from aiohaul.logs import JsonFormatter
from tests.support.compute_fixtures import REGION
from tests.support.definitions import local, source, to, transfer
from tests.support.fake_ecs import FakeEcs
from tests.support.fake_http import Request
from tests.support.fake_lambda import FakeLambda, Function, echoing, failing, resetting, returning
from tests.support.gateway import Gateway
from tests.support.secrets_of_moto import create_secret
from tests.support.store import Store

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
            if isinstance(error, aiohaul.HaulError | ClientError):
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
    monkeypatch.setattr("aiohaul.aws.service.backoff_delay", lambda *_: 0.0)

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


def repeating(status: int = 200, headers: dict[str, str] | None = None) -> Function:
    """Answer with what was sent, as the reason of a failure and as the end of the log."""

    async def function(request: Request) -> None:
        log = base64.b64encode(b"START " + request.body).decode()
        text = request.body.decode()
        body = json.dumps({"errorType": "E", "errorMessage": text, "message": text}).encode()
        told = {"x-amz-log-result": log, **(headers or {})}
        await returning(body, status, told)(request)

    return function


async def unreadable(request: Request) -> None:
    """Repeat what was sent in a head that no HTTP client takes."""
    request.connection.writer.write(b"HTTP/1.1 200 OK\r\n" + request.body + b"\r\n\r\n")
    await request.connection.writer.drain()
    request.connection.writer.close()


UNHANDLED = {"x-amz-function-error": "Unhandled"}
INVALID = {"x-amzn-errortype": "InvalidRequestContentException"}
BROKEN = {"x-amzn-errortype": "ServiceException"}


@pytest.fixture
def repeaters(functions: FakeLambda) -> dict[str, type[Exception] | None]:
    """Functions that repeat what they were sent, and what their calls raise."""
    functions.functions |= {
        "good": repeating(),
        "bad": repeating(headers=UNHANDLED),
        "refused": repeating(400, INVALID),
        "broken": repeating(500, BROKEN),
        "odd": unreadable,
    }
    return {
        "good": None,
        "bad": aiohaul.FunctionError,
        "refused": aiohaul.ServiceError,
        "broken": aiohaul.OutcomeUnknownError,
        "odd": aiohaul.OutcomeUnknownError,
    }


async def test_function_that_repeats_a_payload_marked_secret(
    said: Said,
    functions: FakeLambda,
    repeaters: dict[str, type[Exception] | None],
    spans: InMemorySpanExporter,
    tmp_path: Path,
) -> None:
    protocol = {"name": LAMBDA, "access_key_id": "a", "secret_access_key": SECRET_KEY}
    protocol |= {"session_token": TOKEN, "region_name": REGION, "endpoint_url": functions.url}
    for name, error in repeaters.items():
        definition = {
            "type": "execution",
            "functionArn": name,
            "invocationType": "RequestResponse",
            "payload": {"password": PAYLOAD},
            "secretPayload": True,
            "protocol": protocol,
        }
        made = await ended(said, aiohaul.run(definition), *([error] if error else []))
        if error is None:
            assert made.payload["errorMessage"] == json.dumps({"password": PAYLOAD}).replace(
                " ", "", 1
            )
            said.add("report", json.dumps(made.as_dict()))
        state, journal = tmp_path / f"{name}.state", tmp_path / f"{name}.journal"
        task = {"order_id": 1, "task_id": "t"}
        batch = aiohaul.run(
            {"type": "batch", "tasks": [task]},
            tasks={"t": definition},
            state=state,
            journal=journal,
        )
        report = await ended(said, batch, *([aiohaul.BatchError] if error else []))
        said.add("report", json.dumps((report.report if error else report).as_dict()))
    for file in tmp_path.iterdir():
        said.add("state", file.read_bytes().decode("latin1"))
    assert {file.suffix for file in tmp_path.iterdir()} >= {".state"}
    finished = spans.get_finished_spans()
    assert finished
    said.add("spans", *(span.to_json() for span in finished))


@pytest.mark.parametrize("depth", range(3))
async def test_hidden_parts_of_a_payload(
    said: Said,
    functions: FakeLambda,
    repeaters: dict[str, type[Exception] | None],
    depth: int,
) -> None:
    hidden = (
        aiohaul.Sensitive({"password": PAYLOAD}),
        {"password": aiohaul.Sensitive(PAYLOAD)},
        {
            "password": [
                aiohaul.Secret(name="s", value=PAYLOAD, version_id="v", created=None),
                aiohaul.Sensitive(aiohaul.Sensitive(7)),
                aiohaul.Parameter(
                    name="p", value=PAYLOAD, type="SecureString", version=1, last_modified=None
                ),
            ]
        },
    )[depth]
    said.add("repr", repr(hidden), str(hidden))
    async with aiohaul.Session(
        region=REGION, endpoint_url=functions.url, access_key_id="a", secret_access_key=SECRET_KEY
    ) as session:
        for name, error in repeaters.items():
            call = session.lambda_().invoke(name, hidden)
            made = await ended(said, call, *([error] if error else []))
            if error is None:
                assert PAYLOAD in made.payload["errorMessage"]
                assert PAYLOAD in made.log_tail
    sent = [json.loads(request.body)["password"] for request in functions.invocations]
    assert all(each == (PAYLOAD if depth < 2 else [PAYLOAD, 7, PAYLOAD]) for each in sent)


async def test_payload_that_is_not_marked_leaves_a_function_its_words(
    functions: FakeLambda, repeaters: dict[str, type[Exception] | None]
) -> None:
    assert repeaters
    keys: dict[str, Any] = {"access_key_id": "a", "secret_access_key": SECRET_KEY}
    async with aiohaul.Session(region=REGION, endpoint_url=functions.url, **keys) as session:
        for name in ("bad", "refused", "broken"):
            with pytest.raises(aiohaul.HaulError, match="in plain sight"):
                await session.lambda_().invoke(name, "in plain sight")


async def test_durable_execution_that_repeats_a_payload_marked_secret(
    said: Said, functions: FakeLambda
) -> None:
    arn = f"arn:aws:lambda:{REGION}:000000000000:function:f:$LATEST/durable-execution/n/i"
    functions.functions["f:$LATEST"] = returning(b"", 202, {"x-amz-durable-execution-arn": arn})
    functions.states[arn] = [
        {"Status": "FAILED", "Error": {"ErrorType": "E", "ErrorMessage": PAYLOAD}}
    ]
    keys: dict[str, Any] = {"access_key_id": "a", "secret_access_key": SECRET_KEY}
    async with aiohaul.Session(region=REGION, endpoint_url=functions.url, **keys) as session:
        started = session.lambda_().start_durable("f:$LATEST", "n", aiohaul.Sensitive(PAYLOAD))
        assert await ended(said, started) == arn
        done = session.lambda_().wait_durable(arn, interval=0.01, secret=True)
        failure = await ended(said, done, aiohaul.DurableExecutionError)
        assert failure.execution.error == f"E: {PAYLOAD}"


async def test_hidden_part_of_the_payload_of_a_definition(
    said: Said, functions: FakeLambda, repeaters: dict[str, type[Exception] | None]
) -> None:
    definition = {
        "type": "execution",
        "functionArn": "bad",
        "invocationType": "RequestResponse",
        "payload": {"password": aiohaul.Sensitive(PAYLOAD), "day": "today"},
        "protocol": {
            "name": LAMBDA,
            "access_key_id": "a",
            "secret_access_key": SECRET_KEY,
            "region_name": REGION,
            "endpoint_url": functions.url,
        },
    }
    aiohaul.validate(definition)
    await ended(said, aiohaul.run(definition), repeaters["bad"] or Exception)
    assert json.loads(functions.invocations[0].body) == {"password": PAYLOAD, "day": "today"}
    said.add("repr", definition["payload"])


def test_hidden_value_is_seen_by_whoever_asks_for_it() -> None:
    hidden = aiohaul.Sensitive("x")
    assert hidden.value == "x"
    assert hidden == aiohaul.Sensitive("x")
    assert hidden != aiohaul.Sensitive("y")
    assert hidden != "x"
    assert {hidden, aiohaul.Sensitive("x")} == {hidden}
    assert pickle.loads(pickle.dumps(hidden)) == hidden  # noqa: S301  # made here
    assert [repr(hidden), f"{hidden}", f"{hidden!s:>3}"] == ["Sensitive(…)"] * 3


def test_secret_payload_is_true_or_false() -> None:
    definition = {
        "type": "execution",
        "functionArn": "f",
        "payload": {},
        "secretPayload": "yes",
        "protocol": {"name": LAMBDA},
    }
    with pytest.raises(aiohaul.DefinitionError, match=r"secretPayload: .*true or false"):
        aiohaul.validate(definition)


async def test_hidden_variables_of_a_task(said: Said, ecs: FakeEcs) -> None:
    variables = [{"name": "PASSWORD", "value": aiohaul.Sensitive(VARIABLE)}]
    overrides: Any = {"name": "main", "environment": variables}
    said.add("repr", overrides)

    async def refuse(request: Request) -> None:
        told = {"__type": "InvalidParameterException", "message": f"no {request.body.decode()}"}
        await request.connection.answer(400, json.dumps(told).encode())

    keys: dict[str, Any] = {"access_key_id": "a", "secret_access_key": SECRET_KEY}
    async with aiohaul.Session(region=REGION, endpoint_url=ecs.url, **keys) as session:
        run = partial(session.fargate(interval=0.02).run, "batch", "work", overrides=overrides)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(ecs, "serve", refuse)
            refused = await ended(said, run(), aiohaul.ServiceError)
            assert refused.code == "InvalidParameterException"
        failure: Any = {"reason": "ATTRIBUTE", "detail": f"with {VARIABLE}"}
        ecs.refusals.append(failure)
        await ended(said, run(), aiohaul.FargateTaskStartError)
    assert ecs.overrides == [
        [{"name": "main", "environment": [{"name": "PASSWORD", "value": VARIABLE}]}]
    ]


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "ExpiredToken"])
async def test_answers_that_repeat_what_was_signed(
    said: Said, functions: FakeLambda, direct: bool, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuses = False

    async def repeat(request: Request) -> None:
        headers = {name: value for name, value in request.headers.items() if "x-amz" in name}
        signed = "\n".join(f"{name}:{value}" for name, value in headers.items())
        if not refuses:
            await request.connection.answer(200, b"", {"etag": '"e"'})
        elif request.path.startswith("/bucket"):
            token = escape(TOKEN)
            body = (
                f"<Error><Code>{code}</Code><Message>It is: '{escape(signed)}'</Message>"
                f"<Token-0>{token}</Token-0><CanonicalRequest>{escape(signed)}</CanonicalRequest>"
                f"<CanonicalRequestBytes>{token}</CanonicalRequestBytes>"
                f"<StringToSign>{token}</StringToSign><SignatureProvided>{token}"
                "</SignatureProvided></Error>"
            )
            await request.connection.answer(403, body.encode())
        else:
            says = f"The Canonical String for this request should have been\n'POST\n{signed}\n'"
            told = {"__type": "InvalidSignatureException", "message": says}
            await request.connection.answer(400, json.dumps(told).encode())

    monkeypatch.setattr(functions, "serve", repeat)
    async with aiohaul.Session(
        region=REGION,
        endpoint_url=functions.url,
        direct=direct,
        access_key_id="a",
        secret_access_key=SECRET_KEY,
        session_token=TOKEN,
    ) as session:
        for _ in range(2):
            await session.s3().touch("bucket", "k")
        refuses = True
        for call in (
            session.s3().touch("bucket", "k"),
            session.ssm().get("/p"),
            session.secrets().get("s"),
            session.lambda_().invoke("f"),
        ):
            failure = await ended(said, call, aiohaul.CredentialsError)
            assert failure.code in {code, "InvalidSignatureException"}
            said.error(as_botocore(failure))


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
