"""What the benchmarks share: medians, ratios, losses, lines, and the endpoint they run against."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aiohaul import Destination, Session
from benchmarks.harness import servers
from benchmarks.harness.processes import CPU, PEAK, SECONDS, ChildFailedError, cost, python
from benchmarks.harness.results import Result, Table, aim, restored
from benchmarks.harness.rounds import exponents, in_turns, line, medians
from benchmarks.harness.surroundings import KEYS, REGION, machine


def test_ways_take_turns_and_the_first_round_does_not_count() -> None:
    order: list[str] = []

    def way(name: str) -> Callable[[], dict[str, float]]:
        def measure() -> dict[str, float]:
            order.append(name)
            return {"s": float(len(order))}

        return measure

    taken = in_turns({"a": way("a"), "b": way("b")}, 2, fewer={"b": 1})
    assert order == ["a", "b", "a", "b", "a"]
    assert [each["s"] for each in taken["a"]] == [3, 5]
    assert medians(taken) == {"a": {"s": 4}, "b": {"s": 4}}


def test_a_table_tells_ratios_to_its_first_row_and_what_is_not_known() -> None:
    table = Table("t", {"ours": {"s": 2.0, "n": 7.0}, "theirs": {"s": 5.0}}, plain=("n",))
    _, _, ours, theirs = table.text().splitlines()
    assert ours.split() == ["|", "ours", "|", "2", "(1.00x)", "|", "7", "|"]
    assert theirs.split() == ["|", "theirs", "|", "5", "(2.50x)", "|", "-", "|"]


def test_every_loss_is_named_and_chance_is_none() -> None:
    rows = {
        "ours": {"s": 2.0, "MiB": 10.0},
        "quicker": {"s": 1.0, "MiB": 20.0},
        "alike": {"s": 1.95, "MiB": 10.0},
        "no peer": {"s": 0.1, "MiB": 1.0},
    }
    table = Table("t", rows, compared=("s", "MiB"), aside=("no peer",))
    assert table.losses() == ["Loss to quicker, t: s 2 against 1 (2.0x)."]


def test_an_aim_is_reached_below_its_limit_only() -> None:
    assert aim("ms", 4.9, 5.0).startswith("Reached")
    assert aim("ms", 5.0, 5.0).startswith("Missed")


def test_a_result_survives_being_stored() -> None:
    result = Result("q", "how", [Table("t", {"a": {"s": 1.0}})], ["said"], {"p": "1 %"}, "q.svg")
    again = restored(result.stored())
    assert again.text() == result.text()


def test_a_line_and_the_powers_of_growth() -> None:
    start, slope = line({10.0: 7.0, 100.0: 52.0, 1000.0: 502.0})
    assert [start, slope] == pytest.approx([2.0, 0.5])
    powers = exponents({1.0: 3.0, 10.0: 3.0, 100.0: 300.0})
    assert list(powers) == [(1.0, 10.0), (10.0, 100.0)]
    assert list(powers.values()) == pytest.approx([0.0, 2.0])


def test_a_process_is_measured_and_one_that_fails_is_told_with_what_it_said() -> None:
    assert set(cost([python("this")])) == {SECONDS, CPU, PEAK}
    with pytest.raises(ChildFailedError, match="No module named nowhere"):
        cost([python("nowhere")])


def test_the_machine_is_named() -> None:
    assert "cores" in machine()
    assert "aiohaul" in machine()


async def test_the_endpoint_lists_as_many_as_its_prefix_says_and_takes_copies() -> None:
    with servers.module("benchmarks.harness.endpoint") as server:
        async with Session(region=REGION, endpoint_url=server.url, **KEYS) as session:
            s3 = session.s3()
            found = await s3.find("source", "n2500")
            assert len({each.key for each in found}) == 2500
            report = await s3.copy(
                found[:20], [Destination(bucket="one"), Destination(bucket="two")]
            )
            assert [each.objects for each in report.destinations] == [20, 20]
