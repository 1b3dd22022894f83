"""What a run tells: log lines with fields, its id, spans and metrics."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import aiohaul
from aiohaul import logs
from aiohaul.telemetry import otel, requests
from tests.support.commands import aiohaul as command_line
from tests.support.commands import written
from tests.support.definitions import local, run, source, to, transfer
from tests.support.gateway import Gateway
from tests.support.servers import KEY, SECRET
from tests.support.store import Store

Proxied = tuple[Gateway, Store]


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def lines(caplog: pytest.LogCaptureFixture, logger: str) -> list[Any]:
    return [record for record in caplog.records if record.name == logger]


async def test_every_object_at_every_destination_is_a_line(
    s3: Store, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO, "aiohaul")
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {"src/a": b"1", "src/b": b"22"})
    report = await run(transfer(source(s3, inbox), to(s3, out), local(tmp_path)), run_id="night-7")
    first, *objects, last = lines(caplog, "aiohaul.run")
    assert {record.run_id for record in (first, *objects, last)} == {report.run_id} == {"night-7"}
    assert (first.getMessage(), first.kind) == ("the transfer started", "transfer")
    assert last.getMessage().startswith("the transfer finished")
    assert {(each.source, each.target, each.bytes) for each in objects} == {
        (f"s3://{inbox}/src/{name}", f"{where}{name}", size)
        for name, size in (("a", 1), ("b", 2))
        for where in (f"s3://{out}/", f"{tmp_path}/")
    }
    assert {each.attempt for each in objects} == {1}
    assert all(each.seconds > 0 for each in objects)
    assert all(each.source in each.getMessage() for each in objects)


async def test_failed_object_and_failed_run_say_why(
    moto_s3: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aiohaul")
    inbox = await moto_s3.bucket()
    await moto_s3.put(inbox, "src/a", b"x")
    with pytest.raises(aiohaul.TransferError) as failed:
        await run(transfer(source(moto_s3, inbox), to(moto_s3, "absent")))
    _, failure, last = lines(caplog, "aiohaul.run")
    assert (failure.levelname, failure.error) == ("WARNING", "BucketNotFoundError")
    assert (last.levelname, last.error) == ("ERROR", "TransferError")
    assert failed.value.report.run_id == last.run_id
    assert last.run_id


async def test_retries_are_told_with_attempt_and_pause(
    proxied: Proxied, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, s3 = proxied
    monkeypatch.setattr("aiohaul.aws.service.backoff_delay", lambda *_: 0.25)
    caplog.set_level(logging.DEBUG, "aiohaul")
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", b"x")
    gateway.rule("^COPY", times=2, status=503, code="SlowDown")
    await run(transfer(source(s3, inbox), to(s3, out)))
    told = [each for each in lines(caplog, "aiohaul.requests") if each.operation == "CopyObject"]
    attempts = [each for each in told if each.levelname == "DEBUG"]
    again = [each for each in told if each.levelname == "INFO"]
    assert [(each.attempt, each.status) for each in attempts] == [(1, 503), (2, 503), (3, 200)]
    assert [(each.attempt, each.pause, each.error) for each in again] == [
        (2, 0.25, "SlowDown"),
        (3, 0.25, "SlowDown"),
    ]
    assert {each.target for each in told} == {f"s3://{out}/a"}


async def test_nobody_listens_and_no_line_is_made(
    moto_s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(logging.Logger, "makeRecord", lambda *told: made.append(told))
    for logger in (logs.RUNS, logs.REQUESTS):
        monkeypatch.setattr(logger, "level", logging.WARNING)
        logger.manager._clear_cache()  # type: ignore[attr-defined]
    inbox, out = await moto_s3.bucket(), await moto_s3.bucket()
    await moto_s3.put(inbox, "src/a", b"x")
    await run(transfer(source(moto_s3, inbox), to(moto_s3, out)))
    assert [each for each in made if each[1].startswith("aiohaul")] == []
    monkeypatch.undo()
    logs.RUNS.manager._clear_cache()  # type: ignore[attr-defined]


def test_lines_of_json_carry_known_fields_only() -> None:
    record = logging.LogRecord("aiohaul.run", logging.INFO, "f", 1, "%s is there", ("ü\n",), None)
    vars(record).update(source="s3://b/ü\n", attempt=2, password="no")
    with logs.run_scope("r-1"):
        text = logs.JsonFormatter().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "INFO",
        "logger": "aiohaul.run",
        "message": "ü\n is there",
        "source": "s3://b/ü\n",
        "attempt": 2,
        "run_id": "r-1",
    }


def test_run_within_a_run_has_its_id() -> None:
    assert logs.current_run() is None
    with logs.run_scope() as outer, logs.run_scope() as inner:
        assert inner == outer == logs.current_run()
    assert logs.current_run() is None


async def test_command_line_writes_json_and_the_same_id_into_the_report(
    s3: Store, tmp_path: Path
) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", b"x")
    file = written(tmp_path, transfer(source(s3, inbox), to(s3, out)))
    report = tmp_path / "report.json"
    done = await command_line("run", "--quiet", "--log-format=json", "--report", report, file)
    assert done.code == 0
    told = [json.loads(line) for line in done.err.splitlines()]
    assert {line["run_id"] for line in told} == {json.loads(report.read_text())["run_id"]}
    assert [line["target"] for line in told if "target" in line] == [f"s3://{out}/a"]
    assert report.stat().st_mode & 0o777 == 0o600
    file = written(tmp_path, transfer(source(s3, "absent"), to(s3, out)))
    done = await command_line("run", "--quiet", "--log-format=json", "--report", report, file)
    assert done.code == 1
    *told, last = done.err.splitlines()
    assert last.startswith("aiohaul: failed: ")
    assert json.loads(told[-1])["run_id"] == json.loads(report.read_text())["run_id"]


async def test_report_to_what_is_no_file(s3: Store, tmp_path: Path) -> None:
    inbox = await s3.bucket()
    await s3.put(inbox, "src/a", b"x")
    file = written(tmp_path, {"type": "transfer", "source": source(s3, inbox)})
    done = await command_line("run", "--quiet", "--report", "/dev/stdout", file)
    assert done.code == 0
    assert '"ok": true' in done.out


@pytest.mark.smoke
async def test_spans_of_a_run_its_copies_and_its_requests(
    s3: Store, spans: InMemorySpanExporter, tmp_path: Path
) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", b"four")
    report = await run(transfer(source(s3, inbox), to(s3, out), local(tmp_path)))
    (top,) = named(spans, "aiohaul.run")
    assert attributes(top) == {"aiohaul.run_id": report.run_id, "aiohaul.kind": "transfer"}
    assert top.context is not None
    finished = spans.get_finished_spans()
    assert {span.context.trace_id for span in finished if span.context} == {top.context.trace_id}
    copies = [attributes(span) for span in named(spans, "aiohaul.copy")]
    assert {(each["aiohaul.target"], each["aiohaul.bytes"]) for each in copies} == {
        (f"s3://{out}/a", 4),
        (f"{tmp_path}/a", 4),
    }
    (copied,) = named(spans, "S3.CopyObject")
    told = attributes(copied)
    assert told["rpc.system"] == "aws-api"
    assert (told["rpc.service"], told["rpc.method"]) == ("S3", "CopyObject")
    assert (told["aws.s3.bucket"], told["aws.s3.key"]) == (out, "a")
    assert told["aws.s3.copy_source"] == f"{inbox}/src/a"
    assert (told["http.response.status_code"], told["aiohaul.attempt"]) == (200, 1)
    assert copied.parent is not None
    reads = {span.context.span_id for span in named(spans, "aiohaul.read") if span.context}
    assert copied.parent.span_id in reads
    assert named(spans, "S3.GetObject")


async def test_failed_request_is_a_failed_span(moto_s3: Store, spans: InMemorySpanExporter) -> None:
    inbox = await moto_s3.bucket()
    await moto_s3.put(inbox, "src/a", b"x")
    with pytest.raises(aiohaul.TransferError):
        await run(transfer(source(moto_s3, inbox), to(moto_s3, "absent")))
    (failed,) = named(spans, "S3.CopyObject")
    assert attributes(failed)["error.type"] == "NoSuchBucket"
    (top,) = named(spans, "aiohaul.run")
    assert attributes(top)["error.type"] == "TransferError"
    assert not any(span.events for span in spans.get_finished_spans())  # no text of any error


async def test_metrics_of_requests_retries_and_objects(
    proxied: Proxied,
    providers: tuple[InMemorySpanExporter, InMemoryMetricReader],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gateway, s3 = proxied
    monkeypatch.setattr("aiohaul.aws.service.backoff_delay", lambda *_: 0.0)
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", b"four")
    gateway.rule("^COPY", times=1, status=503, code="SlowDown")
    before = numbers(providers[1])
    await run(transfer(source(s3, inbox), to(s3, out)))
    after = numbers(providers[1])
    gained = {name: after[name] - before.get(name, 0) for name in after}
    assert gained["aiohaul.requests"] == gateway.count("") - gateway.count("^(HEAD|POST) /$")
    assert gained["aiohaul.request.duration"] == gained["aiohaul.requests"]
    assert (gained["aiohaul.retries"], gained["aiohaul.throttles"]) == (1, 1)
    assert (gained["aiohaul.objects"], gained["aiohaul.bytes"]) == (1, 4)


def numbers(reader: InMemoryMetricReader) -> dict[str, int]:
    """Name -> the sum, or the count of a histogram."""
    data = reader.get_metrics_data()
    if data is None:
        return {}
    found: dict[str, int] = {}
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                points: list[Any] = list(metric.data.data_points)
                found[metric.name] = sum(getattr(p, "count", None) or p.value for p in points)
    return found


WITHOUT = """
import asyncio, json, sys
sys.modules["opentelemetry"] = None
import aiohaul
from aiohaul.telemetry import otel, requests
assert not otel.is_active()
one = requests.trace_request("s3", "CopyObject", "t", {})
assert one is requests.trace_request("s3", "X", "t", {})
report = asyncio.run(aiohaul.run(json.loads(sys.argv[1])))
print(report.destinations[0].objects)
"""


async def test_it_works_without_opentelemetry(moto_s3: Store) -> None:
    inbox, out = await moto_s3.bucket(), await moto_s3.bucket()
    await moto_s3.put(inbox, "src/a", b"x")
    definition = json.dumps(transfer(source(moto_s3, inbox), to(moto_s3, out)))
    command = (sys.executable, "-c", WITHOUT, definition)
    done = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    assert await done.communicate() == (b"1\n", b"")


def test_telling_never_changes_an_answer(spans: InMemorySpanExporter) -> None:
    assert otel.is_active()
    answer = {"ETag": '"x"', "ResponseMetadata": {"HTTPStatusCode": 206, "RequestId": "r"}}
    with requests.trace_request(
        "s3", "GetObject", "s3://b/k", {"Bucket": "b", "Body": SECRET}
    ) as told:
        assert told((b"body", answer)) == (b"body", answer)
    (span,) = spans.get_finished_spans()
    assert attributes(span)["http.response.status_code"] == 206
    assert SECRET not in span.to_json()
    assert KEY not in span.to_json()


ALONE = """
import opentelemetry.trace
from aiohaul.telemetry import otel, requests
assert not otel.is_active()
one = requests.trace_request("s3", "CopyObject", "t", {})
assert one is requests.trace_request("s3", "X", "t", {})
from opentelemetry.sdk.trace import TracerProvider
opentelemetry.trace.set_tracer_provider(TracerProvider())
assert otel.is_active()
assert one is not requests.trace_request("s3", "X", "t", {})
"""


async def test_the_api_of_opentelemetry_alone_costs_no_spans() -> None:
    command = (sys.executable, "-c", ALONE)
    done = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    assert await done.communicate() == (b"", b"")
