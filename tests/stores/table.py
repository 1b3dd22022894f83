"""What ran on which store, as the table in README.md beside this.

``nox -s stores`` writes it: the tests note what came of them, and this makes a table of it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from tests.stores import doctor_table
from tests.support.stores import STORES

README = Path(__file__).with_name("README.md")
#: Where tests note what came of them; nowhere, if it is not set.
RESULTS = "AIOHAUL_STORES_RESULTS"
_BEGIN = "<!-- written by nox -s stores -->"


@dataclass(frozen=True)
class Result:
    """What came of one test.

    Attributes:
        feature: what it shows.
        store: on which store.
        version: of the store.
        outcome: passed, failed, or xfailed.
        reason: why it is known to fail.
    """

    feature: str
    store: str
    version: str
    outcome: str
    reason: str = ""


def note(item: pytest.Item, store: tuple[str, str], report: pytest.TestReport) -> None:
    """Write down what came of a test; many processes may do so at once."""
    if RESULTS not in os.environ:
        return
    feature = item.get_closest_marker("feature")
    assert feature is not None, item
    reason = str(getattr(report, "wasxfail", ""))
    outcome = "xfailed" if reason else report.outcome
    result = Result(feature.args[0], *store, outcome, reason)
    with Path(os.environ[RESULTS]).open("a") as file:
        file.write(json.dumps(asdict(result)) + "\n")


def table(results: Iterable[Result]) -> str:
    """Features down, stores across; each cell says on which version it ran."""
    found: dict[tuple[str, str, str], list[Result]] = {}
    for each in results:
        found.setdefault((each.feature, each.store, each.version), []).append(each)
    order = list(STORES)
    columns = sorted({key[1:] for key in found}, key=lambda key: (order.index(key[0]), key[1]))
    features = list(dict.fromkeys(feature for feature, _, _ in found))
    reasons: list[str] = []
    rows = [["feature", *(STORES[name].title for name, _ in columns)]]
    rows.append(["---"] * len(rows[0]))
    for feature in features:
        cells = (_cell(found.get((feature, *column), []), reasons) for column in columns)
        rows.append([feature, *cells])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if reasons:
        lines += ["", *(f"{number}. {reason}" for number, reason in enumerate(reasons, start=1))]
    return "\n".join(lines)


def _cell(results: Sequence[Result], reasons: list[str]) -> str:
    outcomes = {each.outcome for each in results}
    if not outcomes:
        return "-"
    version = results[0].version
    if outcomes == {"passed"}:
        return f"ran on {version}"
    if "failed" in outcomes:
        return f"failed on {version}"
    reason = next(each.reason for each in results if each.reason)
    if reason not in reasons:
        reasons.append(reason)
    return f"not on {version} ({reasons.index(reason) + 1})"


def features_in(text: str) -> list[str]:
    """The features of a written table."""
    rows = [line for line in text.rpartition(_BEGIN)[2].splitlines() if line.startswith("| ")]
    return [row.split(" | ")[0].removeprefix("| ") for row in rows[2:]]


def main() -> None:
    """Put the tables of these results into their READMEs."""
    results = Path(sys.argv[1])
    lines = results.read_text().splitlines()
    _write(README, table(Result(**json.loads(line)) for line in lines))
    found = Path(f"{results}{doctor_table.SUFFIX}").read_text().splitlines()
    _write(doctor_table.README, doctor_table.table(tuple(json.loads(line)) for line in found))


def _write(readme: Path, written: str) -> None:
    head = readme.read_text().partition(_BEGIN)[0]
    readme.write_text(f"{head}{_BEGIN}\n\n{written}\n")


if __name__ == "__main__":
    main()
