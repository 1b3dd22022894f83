"""Makes small reports for XComs, with counts, bytes and seconds, and no list of keys. No I/O."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from aiohaul.errors import HaulError
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
from aiohaul.tasks.execution import report_of

#: Maximum number of failures, of destinations, and of characters in a text, in an XCom.
MAX_FAILURES = 5
_MAX_DESTINATIONS = 50
_MAX_CHARACTERS = 1000
#: Maximum number of characters of the JSON of a function's response in an XCom.
MAX_PAYLOAD = 8192

Json = dict[str, Any]


def short_report(report: Report) -> Json:
    """Return the report of a task as a JSON object without lists of keys."""
    match report:
        case TransferReport():
            return _transfer(report)
        case InvocationReport():
            return {
                "type": report.type,
                "ok": report.ok,
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
                "ok": report.ok,
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
            return {**report.as_dict()}
        case BatchReport():
            states = Counter(each.state for _, each in report.all_tasks())
            return {
                "type": report.type,
                "ok": report.ok,
                "tasks": dict(states),
                "seconds": report.seconds,
            }


def payload(answer: Any) -> Json:
    """Return the response of a function and its size; only the size above 8192 characters."""
    size = len(json.dumps(answer))
    if size > MAX_PAYLOAD:
        return {"payload": None, "payload_size": size}
    return {"payload": answer, "payload_size": size}


def succeeded(report: Json) -> Json:
    """Return the event of work that succeeded.

    Args:
        report: the report, as ``short_report`` returns it.
    """
    return {"ok": True, "report": report}


def failed(error: HaulError) -> Json:
    """Return the event of work that failed, with the report of the error if there is one."""
    report = report_of(error)
    return {
        "ok": False,
        "kind": type(error).__name__,
        "error": _short(str(error)),
        "report": short_report(report) if report else None,
    }


def _transfer(report: TransferReport) -> Json:
    action = report.action
    return {
        "type": report.type,
        "ok": report.ok,
        "found": report.found,
        "size": report.size,
        "seconds": report.seconds,
        "destinations": [_destination(each) for each in report.destinations[:_MAX_DESTINATIONS]],
        "action": None
        if action is None
        else {
            "action": action.action,
            "objects": action.objects,
            "failed": len(action.failures),
            "delete_guard": action.delete_guard,
        },
        "failed": len(report.failures),
        "failures": _first(report.failures),
    }


def _destination(report: DestinationReport) -> Json:
    return {
        "destination": report.destination,
        "objects": report.objects,
        "size": report.size,
        "already_there": report.already_there,
        "failed": len(report.failures),
        "flag": report.flag,
        "seconds": report.seconds,
    }


def _first(failures: Iterable[Failure]) -> list[Json]:
    first = list(failures)[:MAX_FAILURES]
    return [
        {"source": each.source, "kind": each.kind, "error": _short(each.error)} for each in first
    ]


def _short(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 1]}…"
