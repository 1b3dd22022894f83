"""The package as it is installed: where it is, its modules, and their floors."""

from __future__ import annotations

import inspect
from pathlib import Path

import aiohaul

ROOT = Path(inspect.getfile(aiohaul)).parent
modules = sorted(ROOT.rglob("*.py"))
#: From the ground up: a room imports from its own floor and those below.
FLOORS = [
    {"installed", "json_types", "pickling", "sensitive", "version"},
    {"haul_error", "logs"},
    {"errors", "progress", "report", "report_json", "results"},
    {"concurrency", "cancellation", "polling", "regexes", "resource_limits", "single_flight"}
    | {"telemetry", "threads", "user_code"},
    {"settings", "storage"},
    {"aws"},
    {"s3", "compute", "parameters"},
    {"session"},
    {"tasks", "blocking"},
    {"doctor"},
    {"cli", "airflow", "dask"},
    {"__main__"},
]


def floor(room: str) -> int:
    """The floor of a module or folder of the package."""
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)
