"""Batches on the command line: what is shown and written, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

import aiohaul
from aiohaul.cli.display_batch import BatchLines, Graph, TaskRow, batch_table, most_relevant
from aiohaul.cli.timeline import format_seconds, timeline
from tests.support.batches import Functions, batch, folder, step, there
from tests.support.commands import aiohaul as command
from tests.support.commands import ended, start
from tests.support.compute_fixtures import KEYS
from tests.support.definitions import FARGATE
from tests.support.fake_ecs import FakeEcs
from tests.support.fake_lambda import FakeLambda

START = datetime(2026, 1, 2, 3, tzinfo=UTC)


@pytest.fixture
def lambdas(functions: FakeLambda) -> Functions:
    made = Functions(functions)
    made.plain("a", "b", "c")
    return made


@pytest.mark.smoke
async def test_batch_is_run_from_its_folder_and_reported(
    lambdas: Functions, tmp_path: Path
) -> None:
    file = folder(tmp_path, lambdas.server.url, batch(step(1, "a"), step(2, "b", 1)))
    report, svg = tmp_path / "report.txt", tmp_path / "night.svg"
    done = await command("run", file, "--report", report, "--timeline", svg)
    assert done.code == 0, done.err
    assert re.search(r"^2 succeeded, \d+\.\d s\n", done.out)
    assert re.search(r"^2 b +1 +succeeded +\d", done.out, re.MULTILINE)
    # In Python's development mode asyncio says what held its loop up.
    first, second, *_ = [each for each in done.err.splitlines() if "Executing <" not in each]
    assert first == "1 (a) started"
    assert re.fullmatch(r"1 \(a\) succeeded after \d+\.\d s", second)
    told = json.loads(report.read_text())
    assert (told["ok"], told["type"]) == (True, "batch")
    assert [each["state"] for each in told["tasks"]] == ["succeeded", "succeeded"]
    assert len(bars(svg.read_text())) == 2
    assert KEYS["secret_access_key"] not in done.out + done.err + report.read_text()


async def test_failed_batch(lambdas: Functions, tmp_path: Path) -> None:
    lambdas.broken("a")
    definition = batch(step(1, "a"), step(2, "b", 1), step(3, "c"))
    tasks = tmp_path / "elsewhere" / "deep"
    tasks.mkdir(parents=True)
    file = folder(tasks, lambdas.server.url, definition).rename(tmp_path / "night.json")
    report, svg = tmp_path / "report.txt", tmp_path / "night.svg"
    done = await command(
        *("run", file, "--tasks", tmp_path / "elsewhere"),
        *("--report", report, "--timeline", svg),
    )
    assert done.code == 1
    assert "failed: 3 tasks: 1 failed, 1 skipped. 1 (a) failed: " in done.err
    assert "it depends on 1 (a), which failed" in done.out
    told = json.loads(report.read_text())
    assert (told["ok"], "no a today" in told["error"]) == (False, True)
    assert [each["state"] for each in told["tasks"]] == ["failed", "skipped", "succeeded"]
    assert len(bars(svg.read_text())) == 2


async def test_rerun_with_a_state_file(lambdas: Functions, tmp_path: Path) -> None:
    lambdas.broken("b")
    file = folder(tmp_path, lambdas.server.url, batch(step(1, "a"), step(2, "b", 1)))
    state = tmp_path / "night.db"
    assert (await command("run", file, "--state", state)).code == 1
    lambdas.plain("b")
    done = await command("run", file, "--state", state)
    assert (done.code, lambdas.called) == (0, ["a", "b", "b"])
    assert "1 (a) already done: it succeeded in an earlier run" in done.err


async def test_quiet_batch_says_nothing(lambdas: Functions, tmp_path: Path) -> None:
    file = folder(tmp_path, lambdas.server.url, batch(step(1, "a")))
    done = await command("run", "--quiet", file)
    assert (done.code, done.out, done.err) == (0, "", "")


@pytest.mark.parametrize(
    ("what", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
async def test_interrupted_batch_cleans_up_and_reports(
    lambdas: Functions, ecs: FakeEcs, tmp_path: Path, what: signal.Signals, code: int
) -> None:
    lambdas.held("b")
    definition = batch(step(1, "a"), step(2, "b", 1), step(3, "c", 2), step(4, "load"))
    file = folder(tmp_path, lambdas.server.url, definition, {"load": there(FARGATE, ecs.url)})
    report, svg = tmp_path / "report.txt", tmp_path / "night.svg"
    process = await start("run", file, "--report", report, "--timeline", svg)
    await lambdas.until_called("b")
    await ecs.until(lambda: ecs.calls["DescribeTasks"] > 0)
    process.send_signal(what)
    done = await ended(process)
    assert (done.code, done.err.endswith("aiohaul: cancelled\n")) == (code, True)
    assert ecs.stopped == list(ecs.tasks)
    told = json.loads(report.read_text())
    assert (told["ok"], told["error"]) == (False, "cancelled")
    states = [each["state"] for each in told["tasks"]]
    assert states == ["succeeded", "cancelled", "skipped", "cancelled"]
    assert "1 succeeded" in done.out
    assert "2 cancelled" in done.out
    assert len(bars(svg.read_text())) == 3


@pytest.mark.parametrize(
    ("definition", "says"),
    [
        (batch(step(1, "a", 2), step(2, "b", 1)), "a cycle: "),
        (batch(step(1, "absent")), "tasks[0].task_id: the task 'absent' cannot be run: there is"),
        (batch(step(1, "night")), "the batch contains itself: night runs night"),
    ],
)
async def test_wrong_batch(tmp_path: Path, definition: dict[str, Any], says: str) -> None:
    file = folder(tmp_path, "http://127.0.0.1:9", definition)
    for name in ("run", "validate"):
        done = await command(name, file)
        assert (done.code, says in done.err) == (2, True), done.err


async def test_validate_looks_at_the_tasks(tmp_path: Path) -> None:
    file = folder(tmp_path, "http://127.0.0.1:9", batch(step(1, "a")))
    done = await command("validate", file)
    assert (done.code, done.out) == (0, f"{file}: valid\n")
    (tmp_path / "empty").mkdir()
    done = await command("validate", "--tasks", tmp_path / "empty", file)
    assert (done.code, "there is no a.json" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("option", "value"),
    [("state", "x.db"), ("timeline", "x.svg"), ("tasks", "x"), ("max-concurrency", "3")],
)
async def test_options_of_batches_are_for_batches(tmp_path: Path, option: str, value: str) -> None:
    file = folder(tmp_path, "http://127.0.0.1:9", batch())
    done = await command("run", tmp_path / "a.json", f"--{option}", value)
    assert (done.code, f"--{option} is for batches" in done.err) == (2, True)
    assert file.exists()


async def test_bound_is_an_option_and_told_of(lambdas: Functions, tmp_path: Path) -> None:
    file = folder(tmp_path, lambdas.server.url, batch(step(1, "a"), step(2, "b"), step(3, "c")))
    done = await command("run", file, "--max-concurrency", "1")
    assert done.code == 0, done.err
    assert lambdas.server.most == 1
    assert done.err.splitlines()[:2] == [
        "2 (b) queued until another task ends",
        "3 (c) queued until another task ends",
    ]
    refused = await command("run", file, "--max-concurrency", "0")
    assert (refused.code, "at least 1" in refused.err) == (2, True)


async def test_timeline_that_cannot_be_written_is_noticed_before_anything_runs(
    lambdas: Functions, tmp_path: Path
) -> None:
    file = folder(tmp_path, lambdas.server.url, batch(step(1, "a")))
    done = await command("run", file, "--timeline", tmp_path / "absent" / "x.svg")
    assert (done.code, "there is no folder" in done.err) == (1, True)
    assert lambdas.called == []


# The timeline


def task(order_id: int, state: Any, **more: Any) -> aiohaul.BatchTaskReport:
    given = {"dependencies": (), "started": None, **more}
    return aiohaul.BatchTaskReport(order_id, f"task-{order_id}", state, **given)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def drawn(svg: str, tag: str) -> list[ET.Element]:
    root = ET.fromstring(svg)  # noqa: S314  # made here
    return list(root.iter(f"{{http://www.w3.org/2000/svg}}{tag}"))


def bars(svg: str) -> list[ET.Element]:
    """The bars of the tasks: they alone have a title."""
    return [each for each in drawn(svg, "rect") if len(each)]


def test_bars_stand_where_the_tasks_ran() -> None:
    report = aiohaul.BatchReport(
        (
            task(1, "succeeded", started=at(0), seconds=10.0),
            task(2, "failed", started=at(10), seconds=30.0, dependencies=(1,)),
            task(3, "skipped", reason="no <one> & nothing", dependencies=(2,)),
        ),
        START,
        40.0,
    )
    svg = timeline(report, "a & b")
    first, second = bars(svg)
    x1, w1, x2, w2 = (float(bar.attrib[name]) for bar in (first, second) for name in ("x", "width"))
    assert x1 + w1 == pytest.approx(x2, abs=0.2)
    assert w2 == pytest.approx(3 * w1, abs=0.5)
    assert first.attrib["fill"] != second.attrib["fill"]
    assert len(drawn(svg, "path")) == 1  # from 1 to 2; 3 never started
    assert any("no <one> & nothing" in (each.text or "") for each in drawn(svg, "title"))


def test_tasks_of_a_batch_in_a_batch_stand_below_it() -> None:
    inner = aiohaul.BatchReport((task(7, "cancelled", started=at(6), seconds=2.0),), at(5), 3.0)
    report = aiohaul.BatchReport(
        (
            task(1, "timed out", started=at(5), seconds=3.0, report=inner),
            task(2, "succeeded", started=at(0), seconds=1.0),
        ),
        START,
        8.0,
    )
    tops = [float(bar.attrib["y"]) for bar in bars(timeline(report))]
    titles = [each.text for each in drawn(timeline(report), "title")]
    assert tops == sorted(tops)
    assert titles == ["2 (task-2): succeeded", "1 (task-1): timed out", "7 (task-7): cancelled"]


def test_wait_for_a_turn_is_drawn_before_the_bar_and_ends_what_was_waited_for() -> None:
    queued = {"queued": 20.0, "queued_since": at(10)}
    report = aiohaul.BatchReport(
        (
            task(1, "succeeded", started=at(0), seconds=10.0),
            task(2, "succeeded", started=at(30), seconds=10.0, dependencies=(1,), **queued),
        ),
        START,
        40.0,
    )
    svg = timeline(report)
    first, second = bars(svg)
    pale = [each for each in drawn(svg, "rect") if each.attrib.get("height") == "6"]
    (waited,) = pale
    for place, width, of in (
        (float(first.attrib["x"]) + float(first.attrib["width"]), 2, first),
        (float(second.attrib["x"]) - float(waited.attrib["width"]), 2, first),
    ):
        assert float(waited.attrib["x"]) == pytest.approx(place, abs=0.2)
        assert float(waited.attrib["width"]) == pytest.approx(
            width * float(of.attrib["width"]), abs=0.5
        )
    assert "queued" in [each.text for each in drawn(svg, "text")]


def test_queue_behind_a_watch_is_drawn_on_the_bar() -> None:
    queued = {"queued": 5.0, "queued_since": at(10)}
    report = aiohaul.BatchReport(
        (task(1, "succeeded", started=at(0), seconds=20.0, **queued),), START, 20.0
    )
    svg = timeline(report)
    (bar,) = bars(svg)
    (pale,) = [each for each in drawn(svg, "rect") if each.attrib.get("height") == "6"]
    x, width = float(bar.attrib["x"]), float(bar.attrib["width"])
    assert float(pale.attrib["x"]) == pytest.approx(x + width / 2, abs=0.2)
    assert float(pale.attrib["width"]) == pytest.approx(width / 4, abs=0.2)


@pytest.mark.parametrize("seconds", [0.0, 0.004, 1.0, 59.0, 3599.0, 10.0**6])
def test_axis_has_a_few_marks_whatever_it_spans(seconds: float) -> None:
    report = aiohaul.BatchReport(
        (task(1, "succeeded", started=START, seconds=seconds),), START, seconds
    )
    assert 1 <= len(drawn(timeline(report), "line")) <= 11


def test_timeline_of_names_that_xml_does_not_take() -> None:
    wild = aiohaul.BatchTaskReport(1, "\x1b[31m<&>\x00", "succeeded", (), started=START)
    assert len(bars(timeline(aiohaul.BatchReport((wild,), START, 1.0), "\x07"))) == 1


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.25, "0.25 s"), (59.0, "59 s"), (75.0, "1:15"), (3700.0, "1:01:40")]
)
def test_seconds_for_people(seconds: float, shown: str) -> None:
    assert format_seconds(seconds) == shown


# The graph and the lines

PLAN = aiohaul.BatchStarted(
    (
        aiohaul.PlannedTask((1,), "[red]copy", (), "transfer"),
        aiohaul.PlannedTask((2,), "inner", ((1,),), "batch"),
        aiohaul.PlannedTask((2, 1), "load", (), "execution"),
        aiohaul.PlannedTask((3,), "last", ((1,), (2,)), "execution"),
    )
)
COURSE: list[aiohaul.Event] = [
    PLAN,
    aiohaul.TaskStarted((1,), "[red]copy"),
    aiohaul.TaskProgress((1,), "[red]copy", aiohaul.WatchPolled("s3://b/[/x]", 3.0)),
    aiohaul.TaskProgress((1,), "[red]copy", aiohaul.Found(2, 2048, ("s3://out/", "s3://too/"))),
    aiohaul.TaskProgress((1,), "[red]copy", aiohaul.Copied("a", "b", "s3://out/", 1024)),
]


def screen(graph: Graph, height: int = 40) -> str:
    out = StringIO()
    Console(file=out, width=100, height=height, force_terminal=False).print(graph)
    return out.getvalue()


def test_graph_shows_every_task_with_its_state() -> None:
    with Graph(StringIO()) as graph:
        for event in COURSE:
            graph(event)
        lines = screen(graph).splitlines()
        assert re.search(r"▶ +1 \[red\]copy +\d+\.\d s +copied 1 of 4", lines[0])
        assert re.search(r"· +2 inner +← 1 +waiting", lines[1])
        assert re.search(r"· +  1 load +waiting", lines[2])
        assert re.search(r"· +3 last +← 1, 2 +waiting", lines[3])
        assert lines[4] == "1 running, 3 waiting"
        graph(aiohaul.TaskQueued((2, 1), "load"))
        lines = screen(graph).splitlines()
        assert re.search(r"▷ +  1 load +queued", lines[2])
        assert lines[4] == "1 running, 1 queued, 2 waiting"
        graph(aiohaul.TaskEnded((1,), "[red]copy", "failed", 2.0, "no\x1bbucket"))
        graph(aiohaul.TaskEnded((2,), "inner", "skipped", 0.0, "it waits for 1"))
        lines = screen(graph).splitlines()
        assert re.search(r"✗ +1 \[red\]copy +2\.0 s +no\\x1bbucket", lines[0])
        assert re.search(r"- +2 inner +← 1 +it waits for 1", lines[1])


def test_graph_of_more_tasks_than_lines_shows_what_runs_and_what_failed() -> None:
    planned = [aiohaul.PlannedTask((n,), f"t{n}", (), "execution") for n in range(1000)]
    with Graph(StringIO()) as graph:
        graph(aiohaul.BatchStarted(tuple(planned)))
        for n in (17, 900):
            graph(aiohaul.TaskStarted((n,), f"t{n}"))
        graph(aiohaul.TaskEnded((900,), "t900", "failed", 1.0, "why"))
        shown = screen(graph, height=14)
        assert len(shown.splitlines()) <= 14
        assert "17 t17" in shown
        assert "900 t900" in shown
        assert "1 running, 1 failed, 998 waiting" in shown


def test_watch_that_queues_for_a_slot_is_shown_as_queued_until_it_resumes() -> None:
    out = StringIO()
    with Graph(StringIO()) as graph, BatchLines(out) as lines:
        for event in (*COURSE[:3], aiohaul.TaskQueued((1,), "[red]copy")):
            graph(event)
            lines(event)
        assert re.search(r"▷ +1 \[red\]copy +watching", screen(graph).splitlines()[0])
        for show in (graph, lines):
            show(aiohaul.TaskResumed((1,), "[red]copy"))
        assert re.search(r"▶ +1 \[red\]copy +\d+\.\d s", screen(graph).splitlines()[0])
    assert out.getvalue().splitlines()[-2:] == [
        "1 ([red]copy) queued until another task ends",
        "1 ([red]copy) resumed",
    ]


def test_what_fits_keeps_its_order() -> None:
    def one(n: int, state: str) -> TaskRow:
        return TaskRow(aiohaul.PlannedTask((n,), "t", (), "execution"), state)

    tasks = [one(1, "succeeded"), one(2, "running"), one(3, "waiting"), one(4, "failed")]
    assert most_relevant(tasks, 2) == [tasks[1], tasks[3]]
    assert most_relevant(tasks, 4) == tasks
    assert most_relevant(tasks, 0) == [tasks[1]]


def test_lines_say_whose_progress_it_is() -> None:
    out = StringIO()
    with BatchLines(out) as lines:
        for event in COURSE:
            lines(event)
        lines(aiohaul.TaskEnded((2, 1), "load", "timed out", 3.04, "too\nlate"))
    assert out.getvalue().splitlines() == [
        "1 ([red]copy) started",
        "1 ([red]copy): watching s3://b/[/x] for at most 3 s more",
        "1 ([red]copy): found 2 objects (2.0 KiB), copying to s3://out/, s3://too/",
        r"2.1 (load) timed out after 3.0 s: too\nlate",
    ]


def test_table_of_no_tasks() -> None:
    assert batch_table(aiohaul.BatchReport((), START, 0.0)) == "no tasks, 0.0 s"


async def test_graph_at_a_terminal(lambdas: Functions, tmp_path: Path) -> None:
    """A real terminal: the graph is drawn on it, and the table goes where the output goes."""
    file = folder(tmp_path, lambdas.server.url, batch(step(1, "a"), step(2, "b", 1)))
    screen_side, program_side = os.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aiohaul", "run", str(file)),
            stdout=asyncio.subprocess.PIPE,
            stderr=program_side,
        )
        out, _ = await process.communicate()
        os.set_blocking(screen_side, False)
        said = ""
        with suppress(BlockingIOError):
            while piece := os.read(screen_side, 65536):
                said += piece.decode(errors="replace")
    finally:
        os.close(screen_side)
        os.close(program_side)
    assert process.returncode == 0
    assert out.startswith(b"2 succeeded")
    assert "✓" in said
    assert "← 1" in said
