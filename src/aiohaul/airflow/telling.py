"""Pure: what a task tells Airflow of itself: counts, bytes and seconds, and no lists of keys."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from aiohaul.errors import HaulError, TransferError
from aiohaul.report import (
    BatchReport,
    DestinationReport,
    Failure,
    FargateReport,
    InvocationReport,
    Report,
    TouchReport,
    TransferReport,
)

#: How many failures are told, destinations named, and characters of a sentence given.
MOST_FAILURES = 5
_MOST_DESTINATIONS = 50
_LONGEST = 1000
#: Bytes of JSON up to which a function's answer is told.
LARGEST_PAYLOAD = 8192

Json = dict[str, Any]


def told(report: Report) -> Json:
    """The report of work that succeeded."""
    match report:
        case TransferReport():
            return _transfer(report)
        case InvocationReport():
            return {
                "type": report.type,
                "ok": True,
                "function": report.function,
                "invocation_type": report.invocation_type,
                "status": report.status,
                "version": report.version,
                "request_id": report.request_id,
                "seconds": report.seconds,
                **({"payload": None} if report.secret else payload(report.payload)),
            }
        case FargateReport():
            return {
                "type": report.type,
                "ok": True,
                "task": report.task,
                "cluster": report.cluster,
                "container": report.container,
                "exit_code": report.exit_code,
                "reason": _short(report.reason or "") or None,
                "log_lines": len(report.logs),
                "log_problem": _short(report.log_problem or "") or None,
                "seconds": report.seconds,
            }
        case TouchReport():
            return report.as_dict()
        case BatchReport():
            states = Counter(each.state for _, each in report.all_tasks())
            return {
                "type": report.type,
                "ok": report.ok,
                "tasks": dict(states),
                "seconds": report.seconds,
            }


def payload(answer: Any) -> Json:
    """A function's answer, or how large it is."""
    size = len(json.dumps(answer))
    if size > LARGEST_PAYLOAD:
        return {"payload": None, "payload_size": size}
    return {"payload": answer, "payload_size": size}


def succeeded(report: Json) -> Json:
    """The event of work that succeeded."""
    return {"ok": True, "report": report}


def failed(error: HaulError) -> Json:
    """The event of work that failed."""
    report = told(error.report) if isinstance(error, TransferError) else None
    return {
        "ok": False,
        "kind": type(error).__name__,
        "error": _short(str(error)),
        "report": report,
    }


def _transfer(report: TransferReport) -> Json:
    action = report.action
    return {
        "type": report.type,
        "ok": report.ok,
        "found": report.found,
        "size": report.size,
        "seconds": report.seconds,
        "destinations": [_destination(each) for each in report.destinations[:_MOST_DESTINATIONS]],
        "action": None
        if action is None
        else {
            "action": action.action,
            "objects": action.objects,
            "failed": len(action.failures),
            "guard": action.guard,
        },
        "failed": len(report.failures),
        "failures": _first(report.failures),
    }


def _destination(report: DestinationReport) -> Json:
    return {
        "destination": report.destination,
        "objects": report.objects,
        "size": report.size,
        "kept": report.kept,
        "failed": len(report.failures),
        "flag": report.flag,
        "seconds": report.seconds,
    }


def _first(failures: Iterable[Failure]) -> list[Json]:
    first = list(failures)[:MOST_FAILURES]
    return [
        {"source": each.source, "kind": each.kind, "error": _short(each.error)} for each in first
    ]


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
