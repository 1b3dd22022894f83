"""Failures in reports are exceptions with their fields, and keep nothing else in memory."""

from __future__ import annotations

import copy
import copyreg
import gc
import json
import pickle
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tblib import pickling_support

import aiohaul
from aiohaul.pickling import without_tracebacks
from aiohaul.report import Failure
from tests.support.batches import Functions, batch, call, failed, step
from tests.support.definitions import source, to, transfer
from tests.support.fake_lambda import FakeLambda
from tests.support.gateway import Gateway
from tests.support.store import Store

Proxied = tuple[Gateway, Store]


class Buffer(bytearray):
    """A buffer to which a weak reference can point."""


def denied(target: str = "s3://b/k") -> aiohaul.AccessDeniedError:
    return aiohaul.AccessDeniedError(
        "no access", operation="PutObject", target=target, code="AccessDenied", status=403
    )


def tracebacks(error: BaseException | None) -> list[Any]:
    found = []
    while error is not None:
        found += [error.__traceback__, error.__context__ if not error.__cause__ else None]
        error = error.__cause__
    return [each for each in found if each is not None]


async def refused(proxied: Proxied, match: str, **more: Any) -> aiohaul.TransferReport:
    """The report of a transfer of two objects, of which a request is refused."""
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {"src/a.txt": b"1", "src/b.txt": b"2"})
    gateway.rule(match, status=403, code="AccessDenied")
    definition = transfer(source(s3, inbox, **more), to(s3, out, directory="in"))
    with pytest.raises(aiohaul.TransferError) as caught:
        await aiohaul.run(definition)
    return caught.value.report


async def test_failure_of_a_copy(proxied: Proxied) -> None:
    report = await refused(proxied, "COPY .*/in/a.txt")
    (failure,) = report.destinations[0].failures
    error = failure.exception
    assert isinstance(error, aiohaul.AccessDeniedError)
    assert (error.operation, error.code, error.status) == ("CopyObject", "AccessDenied", 403)
    assert error.target.endswith("/in/a.txt")
    assert (failure.error, failure.kind) == (str(error), "AccessDeniedError")
    assert tracebacks(error) == []


async def test_failure_of_an_action(proxied: Proxied) -> None:
    action = {"postCopyAction": {"action": "delete"}}
    report = await refused(proxied, r"POST .*\?delete", **action)
    assert report.action is not None
    errors = [each.exception for each in report.action.failures]
    assert len(errors) == 2
    for error in errors:
        assert isinstance(error, aiohaul.AccessDeniedError)
        assert (error.operation, error.code) == ("DeleteObjects", "AccessDenied")


async def test_failures_of_a_batch(proxied: Proxied, functions: FakeLambda) -> None:
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a.txt")
    gateway.rule("COPY", status=403, code="AccessDenied")
    lambdas = Functions(functions)
    lambdas.broken("a")
    lambdas.held("late")
    protocol = {"endpoint_url": functions.url, "region_name": "eu-west-1"}
    protocol |= {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "sEcReTkEy"}
    tasks = {name: call(name) for name in ("a", "late")}
    for each in tasks.values():
        each["protocol"] = {**each["protocol"], **protocol}
    tasks["copy"] = transfer(source(s3, inbox), to(s3, out))
    report = await failed(
        batch(step(1, "a"), step(2, "copy"), step(3, "late", timeout=0.5)), tasks=tasks
    )
    called, copied, late = [each.failure and each.failure.exception for each in report.tasks]
    assert isinstance(called, aiohaul.FunctionError)
    assert called.invocation.payload == {"errorMessage": "no a today"}
    assert isinstance(copied, aiohaul.TransferError)
    inner = copied.report.destinations[0].failures[0].exception
    assert isinstance(inner, aiohaul.AccessDeniedError)
    assert isinstance(late, aiohaul.BatchTimeoutError)
    assert tracebacks(called) == tracebacks(copied) == tracebacks(late) == []


async def test_report_keeps_no_chunk_of_a_stream_alive(proxied: Proxied) -> None:
    gateway, s3 = proxied
    out = await s3.bucket()
    gateway.rule("PUT .*/k", status=403, code="AccessDenied")
    chunks: list[weakref.ref[Buffer]] = []

    async def content() -> AsyncIterator[Any]:
        for _ in range(4):
            chunk = Buffer(b"x" * 1000)
            chunks.append(weakref.ref(chunk))
            yield chunk

    settings = aiohaul.Settings.from_protocol(s3.protocol())
    target = aiohaul.Destination(bucket=out, settings=settings)
    async with aiohaul.Session() as session:
        try:
            await session.s3(settings).copy([aiohaul.Stream("k", content())], [target])
        except aiohaul.TransferError as error:
            report = error.report
    gc.collect()
    assert isinstance(report.destinations[0].failures[0].exception, aiohaul.AccessDeniedError)
    assert chunks
    assert [each() for each in chunks if each() is not None] == []


def raised_with_buffers() -> tuple[Failure, list[weakref.ref[Buffer]]]:
    """A failure whose error, and the causes of that, left frames that hold buffers."""
    buffers: list[weakref.ref[Buffer]] = []

    def held() -> Buffer:
        buffer = Buffer(b"x")
        buffers.append(weakref.ref(buffer))
        return buffer

    def first() -> None:
        buffer = held()
        raise OSError(len(buffer))

    def second() -> None:
        buffer = held()
        try:
            first()
        except OSError as error:
            raise denied(f"s3://b/{len(buffer)}") from error

    def third() -> None:
        buffer = held()
        try:
            second()
        except aiohaul.ServiceError as error:
            raise aiohaul.VerificationError(f"{len(buffer)} bytes") from error

    try:
        third()
    except aiohaul.HaulError as error:
        return Failure.of("s3://b/k", error), buffers
    raise AssertionError


@pytest.fixture(params=["plain", "dask"])
def beside_dask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without tblib's reducers, which Dask registers: they keep tracebacks."""
    for cls in list(copyreg.dispatch_table):
        if issubclass(cls, BaseException):
            monkeypatch.delitem(copyreg.dispatch_table, cls)
    if request.param == "dask":
        for each in (aiohaul.VerificationError, aiohaul.AccessDeniedError):
            monkeypatch.setitem(copyreg.dispatch_table, each, pickling_support.pickle_exception)


@pytest.mark.usefixtures("beside_dask")
def test_no_traceback_of_a_cause_keeps_a_buffer_alive() -> None:
    failure, buffers = raised_with_buffers()
    gc.collect()
    assert len(buffers) == 3
    assert [each() for each in buffers if each() is not None] == []
    assert isinstance(failure.exception, aiohaul.VerificationError)
    cause = failure.exception.__cause__
    assert isinstance(cause, aiohaul.AccessDeniedError)
    assert cause.target == "s3://b/1"
    assert "OSError" in str(cause.__cause__.__notes__)  # type: ignore[union-attr]  # its text
    assert tracebacks(failure.exception) == []


def test_original_error_is_left_as_it_is() -> None:
    with pytest.raises(aiohaul.AccessDeniedError) as caught:
        raise denied()
    failure = Failure.of("s3://b/k", caught.value)
    assert caught.value.__traceback__ is not None
    assert failure.exception is not caught.value


def test_causes_in_a_circle_come_to_an_end() -> None:
    first, second = denied("s3://b/1"), denied("s3://b/2")
    first.__cause__, second.__cause__ = second, first
    made = without_tracebacks(first)
    assert isinstance(made.__cause__, aiohaul.AccessDeniedError)
    assert made.__cause__ is not second
    assert made.__cause__.target == "s3://b/2"
    first.__cause__ = None


@pytest.mark.parametrize(
    "copied",
    [lambda value: pickle.loads(pickle.dumps(value)), copy.deepcopy],  # noqa: S301  # ours
)
def test_failures_can_be_pickled_and_copied(copied: Callable[[Failure], Failure]) -> None:
    failure, _ = raised_with_buffers()
    again = copied(failure)
    assert again == failure
    assert isinstance(again.exception, aiohaul.VerificationError)
    assert again.exception is not failure.exception
    cause = again.exception.__cause__
    assert isinstance(cause, aiohaul.AccessDeniedError)
    assert (cause.code, cause.status, cause.target) == ("AccessDenied", 403, "s3://b/1")


def test_failure_of_an_error_that_is_not_aiohauls_has_no_exception() -> None:
    failure = Failure.of("load", KeyError("k"))
    assert (failure.exception, failure.error, failure.kind) == (None, "'k'", "KeyError")


async def test_json_of_a_report_is_without_exceptions(proxied: Proxied) -> None:
    report = await refused(proxied, "COPY .*/in/a.txt")
    (failure,) = report.as_dict()["destinations"][0]["failures"]
    assert failure.keys() == {"source", "error", "kind"}
    assert json.loads(json.dumps(report.as_dict()))["ok"] is False
    made = aiohaul.BatchTaskReport(
        1, "t", "failed", (), report=report, failure=Failure.of("t", denied())
    )
    assert (made.as_dict()["failure"] or {}).keys() == {"source", "error", "kind"}
    assert "exception" not in json.dumps(made.as_dict())
    assert "exception" not in repr(report.destinations[0].failures)
