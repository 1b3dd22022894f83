"""The counts of a campaign, as a table."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

#: Operation, fault, cases, how many succeeded all the same, how many were wrong.
Row = tuple[str, str, int, int, int]


def note(directory: Path, row: Row) -> None:
    """Write down how one fault fared at one operation; many processes may do so at once."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "counts.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def read(directory: Path) -> list[Row]:
    lines = (directory / "counts.jsonl").read_text().splitlines()
    return [(a, b, int(c), int(d), int(e)) for a, b, c, d, e in map(json.loads, lines)]


def table(rows: Iterable[Row]) -> str:
    """Faults down, operations across: cases, and in brackets how many succeeded all the same."""
    cases: Counter[tuple[str, str]] = Counter()
    healed: Counter[tuple[str, str]] = Counter()
    wrong = 0
    for operation, fault, count, well, bad in rows:
        for key in ((operation, fault), (operation, "all"), ("all", fault), ("all", "all")):
            cases[key] += count
            healed[key] += well
        wrong += bad
    operations = [*dict.fromkeys(each for each, _ in cases if each != "all"), "all"]
    kinds = [*dict.fromkeys(each for _, each in cases if each != "all"), "all"]
    lines = [_line(["fault", *operations]), _line(["---", *("---:" for _ in operations)])]
    for kind in kinds:
        told = [_cell(cases[each, kind], healed[each, kind]) for each in operations]
        lines.append(_line([kind, *told]))
    return "\n".join([*lines, "", f"{cases['all', 'all']} cases, {wrong} of them wrong."])


def main() -> None:
    directory = Path(sys.argv[1])
    told = table(read(directory))
    (directory / "counts.md").write_text(told + "\n")
    print(told)  # noqa: T201  # what it is for


def _cell(cases: int, healed: int) -> str:
    return f"{cases} ({healed})" if cases else ""


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
