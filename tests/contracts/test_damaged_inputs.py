"""What the fuzzers found, and what their authors thought of: each refused in words of its own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from aiohaul.cli.runner import write_report
from aiohaul.compute.invocation import check_durable_arn, check_function
from aiohaul.parameters.secrets_manager import Secret
from aiohaul.progress import ignore
from aiohaul.s3.journal import Journal
from aiohaul.s3.watching import changes
from aiohaul.s3.watching.queues import queue_settings
from aiohaul.tasks.definition import Transfer, parse
from aiohaul.tasks.resume import finish_action
from tests.support.samples import CURSOR, DEFINITIONS

# Cursors


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [],
        "cursor",
        {**CURSOR, "cutoff": 10**400},
        {**CURSOR, "cutoff": float("nan")},
        {**CURSOR, "cutoff": float("inf")},
        {**CURSOR, "bucket": {"deep": []}},
        {**CURSOR, "directory": None},
        {**CURSOR, "seen": "AAAA"},
        {**CURSOR, "seen": "é"},
        {**CURSOR, "seen": None},
    ],
    ids=lambda stored: str(stored)[:60],
)
def test_cursor_that_is_damaged(stored: Any) -> None:
    with pytest.raises(aiohaul.CursorError, match=r"(?i)start without since="):
        changes.restore(stored, "in", "src")


def test_cursor_of_another_directory_is_named() -> None:
    with pytest.raises(
        aiohaul.CursorError, match="of s3://in/other failed: since= is a cursor of s3://in/src"
    ):
        changes.restore(CURSOR, "in", "other")


def test_cursor_that_is_right() -> None:
    assert len(changes.restore(CURSOR, "in", "src")) == 1


# Names


@pytest.mark.parametrize("url", ["http://[", "http://[x]/q", "https://[::1/q", "", "q", "s3://b"])
def test_queue_whose_url_is_none(url: str) -> None:
    with pytest.raises(aiohaul.SettingsError, match="is not the URL of an SQS queue"):
        queue_settings(aiohaul.Settings(), url)


@pytest.mark.parametrize(
    "name",
    [
        "arn:aws:lambda:eu-west-\u0661:111122223333:function:f",
        f"arn:aws:lambda:eu-west-1:{chr(0x661) * 12}:function:f",
        f"{chr(0x661) * 12}:function:f",
    ],
)
def test_function_whose_account_is_in_the_digits_of_another_script(name: str) -> None:
    with pytest.raises(aiohaul.FunctionNameError):
        check_function(name)


@pytest.mark.parametrize("version", ["é", "a b", "x\n", "prod"])
def test_durable_execution_of_no_version(version: str) -> None:
    arn = "arn:aws:lambda:eu-west-1:111122223333:function:f:{}/durable-execution/n/i"
    check_durable_arn(arn.format("$LATEST"))
    check_durable_arn(arn.format("7"))
    with pytest.raises(aiohaul.FunctionNameError):
        check_durable_arn(arn.format(version))


async def test_key_with_half_of_a_character_is_not_blamed_on_the_answer(moto_url: str) -> None:
    async with aiohaul.Session(
        endpoint_url=moto_url, access_key_id="k", secret_access_key="s", region="eu-west-1"
    ) as session:
        with pytest.raises(
            aiohaul.HaulError, match="was not sent: a parameter is not valid Unicode"
        ) as raised:
            await session.s3().touch("in", "a\ud800")
    assert not isinstance(raised.value, aiohaul.ServiceError)


# Secrets


@pytest.mark.parametrize(
    "path", ["$[" + "9" * 5000 + "]", "$.a[?", "$.a.`sub(`", "$[1:2:0]", "$.a[*"]
)
def test_path_that_is_none(path: str) -> None:
    secret = Secret(name="night", value='{"a": ["hidden"]}', version_id="1", created=None)
    with pytest.raises(aiohaul.SecretValueError) as raised:
        secret.select(path)
    assert "hidden" not in str(raised.value)


# Journals


DEFINITION = DEFINITIONS[0]


async def entered(path: Path) -> None:
    async with Journal(path, "night"):
        pass


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
async def test_journal_of_an_impossible_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(aiohaul.JournalError, match="cannot be used"):
        await entered(tmp_path / name)


async def with_row(path: Path, change: Callable[[list[Any]], None], table: str) -> None:
    """A journal one of whose rows is not as it was written."""
    async with Journal(path, "night") as journal:
        mine = journal.transfer
    rows: dict[str, list[Any]] = {
        "run": [mine, 1, "[]"],
        "copied": [mine, '"s"', '["aws", "out", "k"]', "v", "w"],
        "opened": [mine, '["aws", "out", "k"]', '"s"', "v", "[]", "h", 5, "CRC32"],
        "part": [mine, '["aws", "out", "k"]', 1, "e", 5, "7"],
    }
    change(rows[table])
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for name, row in rows.items():
            marks = ", ".join("?" * len(row))
            database.execute(f"INSERT INTO {name} VALUES ({marks})", row)  # noqa: S608


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("run", 2, "[{]"),
        ("run", 2, "9" * 5000),
        ("copied", 1, "s"),
        ("copied", 1, "7"),
        ("copied", 2, '["aws", "out"]'),
        ("copied", 2, "7"),
        ("copied", 2, '["aws", [], {}]'),
        ("opened", 2, ""),
        ("opened", 4, "5"),
        ("opened", 4, "[[]]"),
        ("opened", 1, "[" * 5000),
        ("part", 5, "x"),
    ],
)
async def test_journal_with_a_row_that_is_damaged(
    tmp_path: Path, table: str, column: int, value: Any
) -> None:
    path = tmp_path / "journal"
    await with_row(path, lambda row: row.__setitem__(column, value), table)
    with pytest.raises(aiohaul.JournalError, match="remove this file to begin anew"):
        await entered(path)


async def test_journal_that_is_another_programs_database(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE run (transfer, acting, sources)")
    with pytest.raises(aiohaul.JournalError, match="another program's database"):
        await entered(path)


@pytest.mark.parametrize("version", [0, 3])
async def test_journal_of_another_format_is_refused(tmp_path: Path, version: int) -> None:
    path = tmp_path / "journal"
    await entered(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(aiohaul.JournalError, match="another version of aiohaul wrote it"):
        await entered(path)


async def test_journal_is_not_a_state_file(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    await entered(path)
    with pytest.raises(aiohaul.BatchStateError, match="or another kind of aiohaul's databases"):
        await aiohaul.run({"type": "batch", "tasks": []}, tasks={}, state=path)


SOURCE = {
    "bucket": "in",
    "key": "k",
    "size": 1,
    "etag": "e",
    "last_modified": "2026-01-31T10:20:30+00:00",
    "storage_class": "STANDARD",
}
FILE = {
    "path": "/nowhere/f",
    "size": 1,
    "last_modified": "2026-01-31T10:20:30+00:00",
    "version": [1, 2, 3],
}


@pytest.mark.parametrize(
    ("told", "key", "value"),
    [
        (SOURCE, "size", "1"),
        (SOURCE, "key", None),
        (SOURCE, "last_modified", "yesterday"),
        (SOURCE, "last_modified", "2026-01-31"),
        (FILE, "version", [1, 2]),
        (FILE, "version", 3),
        (FILE, "path", 3),
    ],
)
async def test_journal_of_an_action_on_sources_that_are_none(
    tmp_path: Path, told: dict[str, Any], key: str, value: Any
) -> None:
    path = tmp_path / "journal"
    text = json.dumps([{**told, key: value}])
    await with_row(path, lambda row: row.__setitem__(2, text), "run")
    task = parse(DEFINITION)
    assert isinstance(task, Transfer)
    source = task.source if "bucket" in told else replace(task.source, bucket=None)
    untouched: Any = None
    async with Journal(path, "night") as journal:
        with pytest.raises(aiohaul.JournalError, match="damaged"):
            await finish_action(source, untouched, journal, ignore)


# Definitions


@pytest.mark.parametrize("kind", [DEFINITION, [DEFINITION], 7])
def test_type_that_is_no_text_is_not_shown(kind: Any) -> None:
    with pytest.raises(aiohaul.DefinitionError, match="type: 'type' is not a string") as raised:
        aiohaul.validate({**DEFINITION, "type": kind})
    assert "KEPTSECRET" not in str(raised.value)


# The command line


def test_answer_of_a_function_that_json_cannot_hold_is_still_a_report(
    tmp_path: Path,
) -> None:
    """Python reads NaN where JSON has none: what is written must be JSON all the same."""
    file = tmp_path / "report.json"
    write_report(file, {"ok": True, "payload": [float("nan"), float("inf"), {"a": 1.5}]})

    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    read = json.loads(file.read_text(), parse_constant=refuse)
    assert read == {"ok": True, "payload": ["NaN", "Infinity", {"a": 1.5}]}
