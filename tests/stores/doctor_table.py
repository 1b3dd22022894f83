"""What the doctor found on which store, as the table in its README."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from aiohaul.doctor.finding import Examination
from tests.support.package import ROOT
from tests.support.stores import STORES, StoreServer

README = ROOT / "doctor" / "README.md"
#: Where what was found is noted, beside the results of the tests.
SUFFIX = ".doctor"
#: Store, version, probe, status, what was found.
Row = tuple[str, str, str, str, str]


def note(store: StoreServer, found: Examination) -> None:
    """Write down what was found, where the table is to be written."""
    results = os.environ.get("AIOHAUL_STORES_RESULTS")
    if results is None:
        return
    with Path(f"{results}{SUFFIX}").open("a") as file:
        for each in found.findings:
            row = (store.name, store.version, each.probe, each.status, each.found)
            file.write(json.dumps(row) + "\n")


def table(rows: Iterable[Row]) -> str:
    """Probes down, stores across; a cell is what was found, or ok."""
    cells: dict[tuple[str, str, str], str] = {}
    probes: dict[str, bool] = {}
    for store, version, probe, status, found in rows:
        cells[probe, store, version] = "ok" if status == "ok" else found
        probes[probe] = probes.get(probe, False) or status != "ok"
    order = list(STORES)
    columns = sorted({key[1:] for key in cells}, key=lambda key: (order.index(key[0]), key[1]))
    lines = [["probe", *(f"{STORES[name].title} {version}" for name, version in columns)]]
    lines.append(["---"] * len(lines[0]))
    lines += [
        [probe, *(cells.get((probe, *column), "-") for column in columns)]
        for probe, is_shown in probes.items()
        if is_shown
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
