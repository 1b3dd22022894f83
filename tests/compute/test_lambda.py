"""Lambda over real sockets: one call is one call, whatever happens to its answer."""

from __future__ import annotations

import asyncio
import base64
import errno
import json
import logging
import socket
from typing import Any

import anyio
import pytest
from botocore.loaders import Loader
from hypothesis import given
from hypothesis import strategies as st

import aiohaul
from aiohaul.aws.error_codes import service_error
from aiohaul.aws.retry import backoff_delay
from aiohaul.compute.invocation import (
    ASYNCHRONOUS_LIMIT,
    SYNCHRONOUS_LIMIT,
    decoded,
    encoded,
    may_send_again,
)
from aiohaul.compute.lambda_handler import DEFAULT_TIMEOUT
from aiohaul.errors import NOT_STARTED
from tests.support.compute_fixtures import KEYS, REGION
from tests.support.connections import live_sockets
from tests.support.fake_http import Request
from tests.support.fake_lambda import (
    FakeLambda,
    Function,
    closing,
    cutting,
    echoing,
    failing,
    refuse,
    resetting,
    returning,
    stalling,
)

ARN = "arn:aws:lambda:eu-west-1:000000000000:function:work"
DURABLE_ARN = f"{ARN}:1/durable-execution/nightly/0123"
LAMBDA_PROTOCOL = {"name": "opentaskpy.addons.aws.remotehandlers.lambda.LambdaExecution"}


def _live_socket(session: aiohaul.Session) -> socket.socket:
    """The socket of the one connection that is in use."""
    (found,) = live_sockets(session)
    return found


# What comes back


@pytest.mark.smoke
async def test_answer_has_everything(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.functions["work"] = returning(b'{"rows": 3}', headers={"x-amz-log-result": "RU5E"})
    answer = await lambda_session.lambda_().invoke("work", {"day": 1}, qualifier="live")
    assert answer.payload == {"rows": 3}
    assert (answer.status, answer.version, answer.request_id) == (200, "$LATEST", "fake-request")
    assert (answer.log_tail, answer.function_error) == ("END", None)
    (request,) = functions.invocations
    assert json.loads(request.body) == {"day": 1}
    assert request.path.endswith("?Qualifier=live")
    assert request.headers["x-amz-log-type"] == "Tail"


async def test_no_payload_is_null(functions: FakeLambda, lambda_session: aiohaul.Session) -> None:
    functions.functions["work"] = echoing
    assert (await lambda_session.lambda_().invoke("work")).payload is None
    assert functions.invocations[0].body == b"null"


async def test_answer_that_is_not_json_is_text(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.functions["work"] = returning(b"plain words")
    assert (await lambda_session.lambda_().invoke("work")).payload == "plain words"


async def test_payload_of_six_megabytes_goes_and_comes(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.functions["work"] = echoing
    payload = "x" * (SYNCHRONOUS_LIMIT - 2)
    assert (await lambda_session.lambda_().invoke("work", payload)).payload == payload


async def test_event_and_dry_run(functions: FakeLambda, lambda_session: aiohaul.Session) -> None:
    functions.functions["work"] = returning(b"", status=202)
    event = await lambda_session.lambda_().invoke("work", {}, invocation_type="Event")
    assert (event.status, event.payload) == (202, None)
    functions.functions["work"] = returning(b"", status=204)
    assert (await lambda_session.lambda_().invoke("work", invocation_type="DryRun")).status == 204
    kinds = [each.headers["x-amz-invocation-type"] for each in functions.invocations]
    assert kinds == ["Event", "DryRun"]


@pytest.mark.smoke
async def test_function_error_is_raised_with_its_log(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    error = {"errorType": "KeyError", "errorMessage": "'day'"}
    functions.functions["work"] = failing(error, log="REPORT\n")
    with pytest.raises(
        aiohaul.FunctionError, match=r"work failed \(Unhandled\): KeyError: 'day'"
    ) as e:
        await lambda_session.lambda_().invoke("work")
    assert e.value.invocation.payload == error
    assert e.value.invocation.log_tail == "REPORT\n"
    assert e.value.invocation.function_error == "Unhandled"
    assert len(functions.invocations) == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'"no such day"', '"no such day"'),
        (b"no such day", '"no such day"'),
        (b'["no", 1]', '["no", 1]'),
        ('{"message": "n\u00f6"}'.encode(), '{"message": "n\u00f6"}'),
        (b"0", "0"),
        (b"", "the function gave no reason"),
    ],
)
async def test_function_error_without_a_type_says_what_it_gave(
    functions: FakeLambda, lambda_session: aiohaul.Session, body: bytes, says: str
) -> None:
    functions.functions["work"] = returning(body, headers={"x-amz-function-error": "Handled"})
    with pytest.raises(aiohaul.FunctionError) as e:
        await lambda_session.lambda_().invoke("work")
    assert str(e.value).endswith(says)
    with pytest.raises(aiohaul.FunctionError) as e:
        await lambda_session.lambda_().invoke("work", aiohaul.Sensitive("day"))
    assert "no such" not in str(e.value)


@pytest.mark.parametrize("payload", ["text", ["a", 1], 7, None, True, {"a": 1}])
async def test_definition_sends_all_that_a_function_can_be_called_with(
    functions: FakeLambda, lambda_session: aiohaul.Session, payload: Any
) -> None:
    functions.functions["work"] = echoing
    definition = {
        "type": "execution",
        "functionArn": "work",
        "invocationType": "RequestResponse",
        "payload": payload,
        "qualifier": "live",
        "clientContext": {"custom": {"day": "n\u00f6"}},
        "tenantId": "blue",
        "protocol": LAMBDA_PROTOCOL,
    }
    report = await aiohaul.run(definition, session=lambda_session)
    assert isinstance(report, aiohaul.InvocationReport)
    assert report.payload == payload
    (sent,) = functions.invocations
    assert sent.path.endswith("/functions/work/invocations?Qualifier=live")
    assert sent.headers["x-amz-tenant-id"] == "blue"
    context = json.loads(base64.b64decode(sent.headers["x-amz-client-context"]))
    assert context == definition["clientContext"]


async def test_client_context_that_cannot_arrive_is_not_sent(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    call = lambda_session.lambda_().invoke
    with pytest.raises(aiohaul.PayloadTooLargeError, match=r"accepts 3,583") as e:
        await call("work", client_context={"custom": "x" * 3000})
    assert (e.value.size, e.value.limit) == (4020, 3583)
    with pytest.raises(
        aiohaul.PayloadError, match="not send the client context to the function for Event"
    ):
        await call("work", client_context={}, invocation_type="Event")
    with pytest.raises(aiohaul.PayloadError, match="the client context is not JSON"):
        await call("work", client_context={"custom": object()})
    assert functions.invocations == []


async def test_sensitive_client_context_hides_what_the_function_says(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.functions["work"] = failing({"errorMessage": "blue-secret"})
    with pytest.raises(aiohaul.FunctionError) as e:
        await lambda_session.lambda_().invoke(
            "work", client_context={"custom": aiohaul.Sensitive("blue-secret")}
        )
    assert "blue-secret" not in str(e.value)
    assert e.value.invocation.secret


# What must not be sent


@pytest.mark.parametrize(
    "name",
    [
        "",
        "has space",
        "arn:aws:s3:::bucket",
        "arn:aws:lambda:eu-west-1:1:function:x",
        "a/b",
        "x:y:z:",
    ],
)
async def test_name_that_no_function_can_have_is_not_sent(
    functions: FakeLambda, lambda_session: aiohaul.Session, name: str
) -> None:
    with pytest.raises(aiohaul.FunctionNameError, match="Lambda function: expected"):
        await lambda_session.lambda_().invoke(name)
    assert functions.accepted == 0


@pytest.mark.parametrize(
    "name", ["work", "work:live", "work:$LATEST", ARN, f"{ARN}:12", "000000000000:function:work"]
)
async def test_names_that_functions_have(
    functions: FakeLambda, lambda_session: aiohaul.Session, name: str
) -> None:
    functions.functions[name] = returning()
    assert (await lambda_session.lambda_().invoke(name)).status == 200


@pytest.mark.parametrize(
    ("kind", "limit"), [("RequestResponse", SYNCHRONOUS_LIMIT), ("Event", ASYNCHRONOUS_LIMIT)]
)
async def test_payload_over_the_limit_is_not_sent(
    functions: FakeLambda, lambda_session: aiohaul.Session, kind: Any, limit: int
) -> None:
    with pytest.raises(aiohaul.PayloadTooLargeError, match=f"Lambda accepts {limit:,}") as e:
        await lambda_session.lambda_().invoke("work", "x" * (limit - 1), invocation_type=kind)
    assert (e.value.size, e.value.limit) == (limit + 1, limit)
    assert functions.accepted == 0


async def test_payload_that_is_not_json_is_not_sent(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    for payload in ({"a": object()}, float("nan")):
        with pytest.raises(aiohaul.PayloadError, match="not JSON"):
            await lambda_session.lambda_().invoke("work", payload)
    assert functions.accepted == 0


# What Lambda refuses


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (refuse(404, "ResourceNotFoundException", "no"), aiohaul.FunctionNotFoundError),
        (refuse(403, "AccessDeniedException", "no"), aiohaul.AccessDeniedError),
        (refuse(429, "TooManyRequestsException", "no"), aiohaul.ThrottledError),
        (refuse(403, "UnrecognizedClientException", "no"), aiohaul.CredentialsError),
        (refuse(400, "InvalidParameterValueException", "no"), aiohaul.ServiceError),
    ],
)
async def test_each_refusal_is_an_error_of_its_own(
    functions: FakeLambda,
    lambda_session: aiohaul.Session,
    function: Function,
    error: type[aiohaul.ServiceError],
) -> None:
    functions.functions["work"] = function
    with pytest.raises(aiohaul.ServiceError, match="Invoke on work failed") as e:
        await lambda_session.lambda_().invoke("work")
    assert type(e.value) is error
    assert len(functions.invocations) == 1


# What leaves the outcome open


@pytest.mark.parametrize(
    "function",
    [
        resetting,
        closing,
        cutting,
        refuse(500, "ServiceException", "broken"),
        refuse(502, "BadGateway", "broken"),
        refuse(503, "ServiceUnavailable", "broken"),
        refuse(504, "GatewayTimeout", "broken"),
    ],
)
async def test_outcome_in_doubt_is_never_replayed(
    functions: FakeLambda, lambda_session: aiohaul.Session, function: Function
) -> None:
    functions.functions["work"] = function
    with pytest.raises(aiohaul.OutcomeUnknownError, match="outcome is unknown") as e:
        await lambda_session.lambda_().invoke("work", retries=4)
    assert "run again" not in str(e.value)
    assert (e.value.attempts, e.value.retryable) == (1, False)
    assert len(functions.invocations) == 1
    functions.functions["work"] = returning(b"1")
    assert (await lambda_session.lambda_().invoke("work")).payload == 1


@pytest.mark.parametrize(
    ("kind", "status"),
    [("RequestResponse", 202), ("RequestResponse", 204), ("Event", 200), ("DryRun", 200)],
)
async def test_answer_to_another_type_of_invocation_is_no_success(
    functions: FakeLambda, lambda_session: aiohaul.Session, kind: Any, status: int
) -> None:
    functions.functions["work"] = returning(b"", status)
    with pytest.raises(
        aiohaul.OutcomeUnknownError, match=f"response to {kind} has status {status}, not 20"
    ) as e:
        await lambda_session.lambda_().invoke("work", invocation_type=kind, retries=4)
    assert (e.value.status, e.value.request_id) == (status, "fake-request")
    assert len(functions.invocations) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_never_followed(
    functions: FakeLambda, lambda_session: aiohaul.Session, status: int
) -> None:
    elsewhere = {"Location": f"{functions.url}/2015-03-31/functions/other/invocations"}
    functions.functions["moved"] = returning(b"", status, elsewhere)
    functions.functions["other"] = returning(b'"sent twice"')
    with pytest.raises(aiohaul.ServiceError):
        await lambda_session.lambda_().invoke("moved", {"secret": 1}, retries=4)
    assert len(functions.invocations) == 1


@pytest.mark.parametrize("how", ["timeout", "read_timeout"])
async def test_silence_ends_at_the_callers_timeout(
    functions: FakeLambda, lambda_session: aiohaul.Session, how: str
) -> None:
    functions.functions["work"] = functions.holding()
    # The first client of a process takes a while to make.
    await lambda_session._clients.service("lambda", once=True)
    seconds: dict[str, Any] = {how: 0.5}
    with pytest.raises(aiohaul.OutcomeUnknownError, match="may still be running at AWS"):
        await lambda_session.lambda_().invoke("work", retries=4, **seconds)
    await functions.until(lambda: not functions.connections)
    assert len(functions.invocations) == 1


async def test_silence_ends_a_little_after_lambdas_own_limit(
    functions: FakeLambda, lambda_session: aiohaul.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 15 * 60 < DEFAULT_TIMEOUT <= 16 * 60
    monkeypatch.setattr("aiohaul.compute.lambda_handler.DEFAULT_TIMEOUT", 0.5)
    functions.functions["work"] = functions.holding()
    await lambda_session._clients.service("lambda", once=True)
    with pytest.raises(aiohaul.OutcomeUnknownError, match=r"no response came within 0\.5 s"):
        await lambda_session.lambda_().invoke("work")
    assert len(functions.invocations) == 1


async def test_answer_that_stalls_ends_at_the_read_timeout(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.functions["work"] = stalling
    with pytest.raises(aiohaul.OutcomeUnknownError):
        await lambda_session.lambda_().invoke("work", read_timeout=0.2)
    assert len(functions.invocations) == 1


async def test_one_client_serves_every_read_timeout(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.functions["work"] = functions.holding()
    async with asyncio.TaskGroup() as tasks:
        patient = tasks.create_task(lambda_session.lambda_().invoke("work"))
        await functions.until(lambda: len(functions.invocations) == 1)
        with pytest.raises(aiohaul.OutcomeUnknownError):
            await lambda_session.lambda_().invoke("work", read_timeout=0.2)
        functions.release.set()
    assert patient.result().payload == "done"
    assert len(lambda_session._clients._services) == 1


# What may be sent again


async def test_throttled_call_is_sent_once_by_default(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.functions["work"] = refuse(
        429, "TooManyRequestsException", "no", {"retry-after": "7"}
    )
    with pytest.raises(aiohaul.ThrottledError) as e:
        await lambda_session.lambda_().invoke("work")
    assert (e.value.retry_after, e.value.retryable) == (7.0, True)
    assert len(functions.invocations) == 1


async def test_throttled_call_is_sent_again_after_what_the_answer_asks_for(
    functions: FakeLambda, lambda_session: aiohaul.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    throttle = refuse(429, "TooManyRequestsException", "no", {"retry-after": "3"})
    pauses: list[float] = []

    async def function(request: Request) -> None:
        await (throttle if len(functions.invocations) < 3 else returning(b"1"))(request)

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    functions.functions["work"] = function
    monkeypatch.setattr("aiohaul.compute.lambda_handler.anyio.sleep", sleep)
    assert (await lambda_session.lambda_().invoke("work", retries=2)).payload == 1
    assert pauses == [3.0, 3.0]
    assert len(functions.invocations) == 3


async def test_no_attempt_follows_that_would_come_too_late(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.functions["work"] = refuse(
        429, "TooManyRequestsException", "no", {"retry-after": "60"}
    )
    with pytest.raises(aiohaul.ThrottledError):
        await lambda_session.lambda_().invoke("work", retries=2, timeout=30)
    assert len(functions.invocations) == 1


async def test_refused_connection_is_tried_again(unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with aiohaul.Session(
        region="eu-west-1", endpoint_url=url, access_key_id="a", secret_access_key="b"
    ) as session:
        with pytest.raises(aiohaul.UnreachableError, match=r"Could not connect.*refused") as e:
            await session.lambda_().invoke("work", retries=1)
    assert e.value.attempts == 2


async def test_connection_that_is_never_ready_was_not_used(
    functions: FakeLambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohaul.aws.clients.CONNECT_TIMEOUT", 0.2)
    url = functions.url.replace(
        "http:", "https:"
    )  # the server waits for a line, the client for TLS
    async with aiohaul.Session(
        region="eu-west-1", endpoint_url=url, access_key_id="a", secret_access_key="b"
    ) as session:
        with pytest.raises(aiohaul.UnreachableError, match="Connect timeout") as e:
            await session.lambda_().invoke("work", retries=1)
    assert e.value.attempts == 2
    assert functions.invocations == []


async def test_call_that_never_had_a_connection_was_not_sent(
    functions: FakeLambda, caplog: pytest.LogCaptureFixture
) -> None:
    url = functions.url.replace("http:", "https:")
    async with aiohaul.Session(region=REGION, endpoint_url=url, **KEYS) as session:
        await session._clients.service("lambda", once=True)
        with pytest.raises(aiohaul.UnreachableError, match=r"was not sent within 0\.5 s") as e:
            await session.lambda_().invoke("work", timeout=0.5)
        assert e.value.retryable
        call = asyncio.create_task(session.lambda_().invoke("work"))
        await functions.until(lambda: functions.accepted == 2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError), anyio.fail_after(1):
            await call
    assert "may continue at AWS" not in caplog.text


async def test_call_without_a_file_descriptor_was_not_sent(
    functions: FakeLambda, lambda_session: aiohaul.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions.functions["work"] = returning(b"1")

    def none_left(*_: Any, **__: Any) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("aiohaul.aws.http.sockets.socket.socket", none_left)
        with pytest.raises(aiohaul.UnreachableError, match="Too many open files"):
            await lambda_session.lambda_().invoke("work")
    assert (await lambda_session.lambda_().invoke("work")).payload == 1


async def test_dry_run_is_never_in_doubt(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.functions["work"] = resetting
    with pytest.raises(aiohaul.EndpointError):
        await lambda_session.lambda_().invoke("work", invocation_type="DryRun")


@given(st.integers(2, 10_000))
def test_pauses_are_bounded(attempt: int) -> None:
    assert backoff_delay(attempt, 5.0) == 5.0
    assert 0 <= backoff_delay(attempt, None) <= 16.0


@given(
    st.sampled_from(["x", "TooManyRequestsException"]),
    st.sampled_from([400, 402, 408, 409, 410, 429, 499, 500, 502, 503, 504, 599]),
)
def test_nothing_is_replayed_on_doubt(code: str, status: int) -> None:
    error = _refusal(code, status)
    throttled = status == 429 or isinstance(error, aiohaul.ThrottledError)
    assert may_send_again(error) == throttled
    assert not (may_send_again(error) and error.outcome_unknown)
    if status in (500, 502, 503, 504):
        assert error.outcome_unknown == (not throttled)


def _refusal(code: str, status: int) -> aiohaul.ServiceError:
    return service_error(
        code, "", operation="Invoke", target="work", status=status, request_id=None
    )


def test_an_answer_that_did_not_come_leaves_doubt() -> None:
    def told(kind: type[aiohaul.ServiceError]) -> aiohaul.ServiceError:
        return kind("no", operation="Invoke", target="work", code="x", retryable=True)

    assert told(aiohaul.EndpointError).outcome_unknown
    assert not told(aiohaul.UnreachableError).outcome_unknown
    assert may_send_again(told(aiohaul.UnreachableError))


def _refusals_of_the_model() -> dict[str, int]:
    """The codes of Invoke in AWS's model, with their statuses."""
    model = Loader().load_service_model("lambda", "service-2")
    errors = (each["shape"] for each in model["operations"]["Invoke"]["errors"])
    return {name: model["shapes"][name]["error"]["httpStatusCode"] for name in errors}


def test_refusals_before_the_start_are_those_of_the_model() -> None:
    statuses = _refusals_of_the_model()
    before = {code for code, status in statuses.items() if status in (408, 409, 502)}
    assert before - {"DurableExecutionAlreadyStartedException"} == NOT_STARTED
    doubtful = {code for code in statuses if _refusal(code, statuses[code]).outcome_unknown}
    assert doubtful == {"ServiceException"}


@pytest.mark.parametrize("code", sorted(NOT_STARTED))
async def test_refusal_before_the_start_is_sent_again_and_never_in_doubt(
    functions: FakeLambda,
    lambda_session: aiohaul.Session,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
) -> None:
    refusal = refuse(_refusals_of_the_model()[code], code, "not yet")

    async def function(request: Request) -> None:
        await (refusal if len(functions.invocations) < 3 else returning(b"1"))(request)

    monkeypatch.setattr("aiohaul.compute.lambda_handler.backoff_delay", lambda *_: 0.0)
    functions.functions["work"] = function
    with pytest.raises(aiohaul.ServiceError, match=f"{code}.*did not start") as e:
        await lambda_session.lambda_().invoke("work")
    assert (type(e.value), e.value.retryable, e.value.attempts) == (aiohaul.ServiceError, True, 1)
    assert (await lambda_session.lambda_().invoke("work", retries=1)).payload == 1


async def test_durable_execution_of_another_payload_is_not_sent_again(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.functions["work"] = refuse(409, "DurableExecutionAlreadyStartedException", "no")
    with pytest.raises(aiohaul.ServiceError, match="AlreadyStarted"):
        await lambda_session.lambda_().start_durable("work", "nightly", retries=3)
    assert len(functions.invocations) == 1


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=9))
def test_payload_comes_back_as_it_went(payload: Any) -> None:
    assert decoded(encoded(payload, "RequestResponse")[0]) == payload


# Cancelling


async def test_cancelled_invocation_drops_its_connection_and_says_what_goes_on(
    functions: FakeLambda, lambda_session: aiohaul.Session, caplog: pytest.LogCaptureFixture
) -> None:
    functions.functions["work"] = functions.holding()
    task = asyncio.create_task(lambda_session.lambda_().invoke("work"))
    await functions.until(lambda: len(functions.invocations) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await functions.until(lambda: not functions.connections)
    assert "The function may continue at AWS" in caplog.text


@pytest.mark.smoke
async def test_cancelled_invocation_frees_its_slot(functions: FakeLambda) -> None:
    functions.functions["work"] = functions.holding()
    functions.functions["quick"] = returning(b"1")
    async with aiohaul.Session(
        region="eu-west-1",
        endpoint_url=functions.url,
        access_key_id="a",
        secret_access_key="b",
        max_invocations=1,
    ) as session:
        for _ in range(3):
            task = asyncio.create_task(session.lambda_().invoke("work"))
            await functions.until(lambda: len(functions.connections) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await functions.until(lambda: not functions.connections)
        with anyio.fail_after(5):
            assert (await session.lambda_().invoke("quick")).payload == 1


async def test_call_without_a_slot_in_time_was_not_sent(functions: FakeLambda) -> None:
    functions.functions["work"] = functions.holding()
    async with (
        aiohaul.Session(
            region="eu-west-1",
            endpoint_url=functions.url,
            access_key_id="a",
            secret_access_key="b",
            max_invocations=1,
        ) as session,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(session.lambda_().invoke("work"))
        await functions.until(lambda: len(functions.invocations) == 1)
        with pytest.raises(aiohaul.UnreachableError, match="no free connection"):
            await session.lambda_().invoke("work", timeout=0.1)
        functions.release.set()
    assert len(functions.invocations) == 1


def test_slots_leave_file_descriptors_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiohaul.aws.clients.resource.getrlimit", lambda _: (1024, 4096))
    session = aiohaul.Session(region="eu-west-1", max_invocations=5000)
    assert session._clients.max_invocations == 768
    monkeypatch.setattr("aiohaul.aws.clients.resource.getrlimit", lambda _: (-1, -1))
    session = aiohaul.Session(region="eu-west-1", max_invocations=5000)
    assert session._clients.max_invocations == 5000


async def test_thousand_held_calls_all_return(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.functions["work"] = functions.holding(b'"done"')
    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(lambda_session.lambda_().invoke("work")) for _ in range(1000)]
        await functions.until(lambda: len(functions.invocations) == 1000)
        assert len(functions.connections) == 1000
        functions.release.set()
    assert {call.result().payload for call in calls} == {"done"}
    assert len(functions.invocations) == 1000


async def test_thousand_held_calls_all_cancelled_and_the_next_works(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.functions["work"] = functions.holding()
    functions.functions["quick"] = returning(b"1")
    calls = [asyncio.create_task(lambda_session.lambda_().invoke("work")) for _ in range(1000)]
    await functions.until(lambda: len(functions.invocations) == 1000)
    for call in calls:
        call.cancel()
    with anyio.fail_after(20):  # none of the functions ends by itself
        await asyncio.wait(calls)
    assert all(call.cancelled() for call in calls)
    await functions.until(lambda: not functions.connections)
    assert (await lambda_session.lambda_().invoke("quick")).payload == 1


@pytest.mark.slow
async def test_call_of_seventy_seconds_returns_its_payload(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.functions["work"] = functions.holding(b'{"seconds": 70}')
    async with asyncio.TaskGroup() as tasks:
        call = tasks.create_task(lambda_session.lambda_().invoke("work"))
        await asyncio.sleep(70)
        functions.release.set()
    assert call.result().payload == {"seconds": 70}
    assert call.result().seconds >= 70
    assert len(functions.invocations) == 1


# The connection


async def test_live_connection_has_keepalive(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.functions["work"] = functions.holding()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(lambda_session.lambda_().invoke("work"))
        await functions.until(lambda: len(functions.invocations) == 1)
        live = _live_socket(lambda_session)
        assert live.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert live.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        assert live.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 30
        functions.release.set()


async def test_payloads_and_keys_are_in_no_log(
    functions: FakeLambda, lambda_session: aiohaul.Session, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    functions.functions["work"] = echoing
    answer = await lambda_session.lambda_().invoke("work", {"password": "hunter2"})
    assert "hunter2" not in caplog.text + repr(answer)
    assert "sEcReTkEy" not in caplog.text


# Durable functions


async def test_durable_execution_is_started_by_name(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.functions["work:1"] = returning(
        b"", status=202, headers={"x-amz-durable-execution-arn": DURABLE_ARN}
    )
    handler = lambda_session.lambda_()
    assert await handler.start_durable("work:1", "nightly", {"day": 1}) == DURABLE_ARN
    (request,) = functions.invocations
    assert request.headers["x-amz-durable-execution-name"] == "nightly"
    assert request.headers["x-amz-invocation-type"] == "Event"


async def test_function_that_is_not_durable_says_so(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.functions["work"] = returning(b"", status=202)
    with pytest.raises(aiohaul.ServiceError, match="not a durable function"):
        await lambda_session.lambda_().start_durable("work", "nightly")
    with pytest.raises(aiohaul.FunctionNameError, match="durable execution"):
        await lambda_session.lambda_().start_durable("work", "not a name")


async def test_durable_execution_is_waited_for_through_failing_looks(
    functions: FakeLambda, lambda_session: aiohaul.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(endpoint: object, seconds: float) -> None: ...

    monkeypatch.setattr("aiobotocore.endpoint.AioEndpoint._sleep", at_once)
    functions.states[DURABLE_ARN] = [
        {"Status": "RUNNING"},
        *[{"http": 429, "code": "TooManyRequestsException"}] * 6,
        {"Status": "RUNNING"},
        {"Status": "SUCCEEDED", "Result": '{"rows": 3}', "EndTimestamp": 1750000100},
    ]
    ended = await lambda_session.lambda_().wait_durable(DURABLE_ARN, interval=0.01)
    assert (ended.status, ended.result, ended.name) == ("SUCCEEDED", {"rows": 3}, "nightly")
    assert functions.stopped == []


async def test_failed_durable_execution_is_an_error(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    failure = {"ErrorType": "ValueError", "ErrorMessage": "no rows"}
    functions.states[DURABLE_ARN] = [{"Status": "FAILED", "Error": failure}]
    with pytest.raises(aiohaul.DurableExecutionError, match="FAILED: ValueError: no rows") as e:
        await lambda_session.lambda_().wait_durable(DURABLE_ARN)
    assert e.value.execution is not None
    assert e.value.execution.status == "FAILED"


@pytest.mark.parametrize("stop", [True, False])
async def test_cancelled_wait_stops_the_durable_execution_unless_told_otherwise(
    functions: FakeLambda,
    lambda_session: aiohaul.Session,
    stop: bool,
) -> None:
    functions.states[DURABLE_ARN] = [{"Status": "RUNNING"}]
    wait = lambda_session.lambda_().wait_durable(DURABLE_ARN, interval=0.01, stop=stop)
    task = asyncio.create_task(wait)
    await functions.until(lambda: functions.looks >= 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert functions.stopped == ([DURABLE_ARN] if stop else [])


async def test_wait_can_be_resumed_and_times_out(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.states[DURABLE_ARN] = [{"Status": "RUNNING"}]
    handler = lambda_session.lambda_()
    with pytest.raises(aiohaul.DurableTimeoutError, match="left running"):
        await handler.wait_durable(DURABLE_ARN, timeout=0.1, interval=0.01, stop=False)
    with pytest.raises(aiohaul.DurableTimeoutError, match="it is stopped") as e:
        await handler.wait_durable(DURABLE_ARN, timeout=0.1, interval=0.01)
    assert e.value.execution is not None
    assert functions.stopped == [DURABLE_ARN]
    functions.states[DURABLE_ARN] = [{"Status": "SUCCEEDED", "Result": "1"}]
    assert (await handler.wait_durable(DURABLE_ARN)).result == 1


async def test_wait_goes_on_in_another_session(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    """As after a restart of the process: the ARN is all that is needed."""
    functions.functions["work:1"] = returning(
        b"", status=202, headers={"x-amz-durable-execution-arn": DURABLE_ARN}
    )
    functions.states[DURABLE_ARN] = [{"Status": "RUNNING"}]
    arn = await lambda_session.lambda_().start_durable("work:1", "nightly")
    with pytest.raises(aiohaul.DurableTimeoutError):
        await lambda_session.lambda_().wait_durable(arn, timeout=0.1, interval=0.01, stop=False)
    functions.states[DURABLE_ARN] = [{"Status": "SUCCEEDED", "Result": "1"}]
    async with aiohaul.Session(region=REGION, endpoint_url=functions.url, **KEYS) as later:
        assert (await later.lambda_().wait_durable(arn)).result == 1
    assert functions.stopped == []


async def test_durable_execution_that_ended_since_the_last_look_is_no_timeout(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.states[DURABLE_ARN] = [{"Status": "RUNNING"}, {"Status": "SUCCEEDED", "Result": "1"}]
    wait = lambda_session.lambda_().wait_durable(DURABLE_ARN, timeout=0.3, interval=60)
    assert (await wait).result == 1
    assert functions.stopped == []


# Definitions


async def test_definition_as_users_write_it_runs(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    definition = json.loads("""
        {
          "type": "execution",
          "functionArn": "arn:aws:lambda:eu-west-1:000000000000:function:my-function",
          "invocationType": "Event",
          "payload": {
            "file-name": "some_file.txt"
          },
          "protocol": {
            "name": "opentaskpy.addons.aws.remotehandlers.lambda.LambdaExecution"
          }
        }
    """)
    functions.functions[definition["functionArn"]] = returning(b"", status=202)
    report = await aiohaul.run(definition, session=lambda_session)
    assert isinstance(report, aiohaul.InvocationReport)
    assert (report.ok, report.status, report.invocation_type) == (True, 202, "Event")
    assert json.loads(functions.invocations[0].body) == {"file-name": "some_file.txt"}
    json.dumps(report.as_dict())


@pytest.mark.parametrize(("max_attempts", "sent"), [(None, 1), (0, 1), (1, 2), (2, 3)])
async def test_max_attempts_of_a_definition_counts_retries_as_botocore_does(
    functions: FakeLambda,
    lambda_session: aiohaul.Session,
    monkeypatch: pytest.MonkeyPatch,
    max_attempts: int | None,
    sent: int,
) -> None:
    monkeypatch.setattr("aiohaul.compute.lambda_handler.backoff_delay", lambda *_: 0.0)
    functions.functions["work"] = refuse(429, "TooManyRequestsException", "no")
    given = {} if max_attempts is None else {"max_attempts": max_attempts}
    definition = {
        "type": "execution",
        "functionArn": "work",
        "invocationType": "RequestResponse",
        "protocol": LAMBDA_PROTOCOL | given,
    }
    with pytest.raises(aiohaul.ThrottledError):
        await aiohaul.run(definition, session=lambda_session)
    assert len(functions.invocations) == sent


async def test_read_timeout_of_a_definition_ends_the_silence(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.functions["work"] = functions.holding()
    definition = {
        "type": "execution",
        "functionArn": "work",
        "invocationType": "RequestResponse",
        "protocol": LAMBDA_PROTOCOL | {"botocoreReadTimeout": 1},
    }
    with pytest.raises(aiohaul.OutcomeUnknownError, match="Read timeout"):
        await aiohaul.run(definition, session=lambda_session)
    assert len(functions.invocations) == 1


async def test_cancelled_definition_drops_its_connection(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.functions["work"] = functions.holding()
    definition = {
        "type": "execution",
        "functionArn": "work",
        "invocationType": "RequestResponse",
        "protocol": LAMBDA_PROTOCOL,
    }
    run = asyncio.create_task(aiohaul.run(definition, session=lambda_session))
    await functions.until(lambda: len(functions.invocations) == 1)
    run.cancel()
    with pytest.raises(asyncio.CancelledError), anyio.fail_after(1):
        await run
    await functions.until(lambda: not functions.connections)


async def test_failing_function_fails_its_task(
    functions: FakeLambda, lambda_session: aiohaul.Session
) -> None:
    functions.functions["work"] = failing({"errorMessage": "no"})
    definition = {
        "type": "execution",
        "functionArn": "work",
        "invocationType": "RequestResponse",
        "protocol": LAMBDA_PROTOCOL | {"botocoreReadTimeout": 900, "max_attempts": 0},
    }
    with pytest.raises(aiohaul.FunctionError):
        await aiohaul.run(definition, session=lambda_session)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"functionArn": "arn:aws:s3:::bucket"}, "functionArn"),
        ({"functionArn": 1}, "functionArn"),
        ({"invocationType": "Evnt"}, "invocationType"),
        ({"payload": "{{ day | tojson }}"}, "payload"),
        ({"clientContext": {}}, "clientContext"),
        ({"invocationType": "RequestResponse", "clientContext": 7}, "clientContext"),
        ({"tenantId": "a,b"}, "tenantId"),
        ({"qualifier": ""}, "qualifier"),
        ({"payload": {"x": "x" * ASYNCHRONOUS_LIMIT}}, "payload"),
        ({"timeout": 0}, "timeout"),
        ({"functionName": "x"}, ""),
        ({"protocol": LAMBDA_PROTOCOL | {"max_attempts": -1}}, "protocol.max_attempts"),
        ({"protocol": LAMBDA_PROTOCOL | {"secret_access_key": "x"}}, "protocol"),
        ({"protocol": LAMBDA_PROTOCOL | {"region": "x"}}, "protocol"),
    ],
)
def test_wrong_definition_is_refused_with_its_place(change: dict[str, Any], path: str) -> None:
    definition = {"type": "execution", "functionArn": ARN, "protocol": LAMBDA_PROTOCOL}
    aiohaul.validate(definition)
    with pytest.raises(aiohaul.DefinitionError) as e:
        aiohaul.validate(definition | change)
    assert e.value.path == path
