"""State files: what is at their path already is refused, unless it is this user's own."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

import aiohaul
from aiohaul.s3.journal import Journal
from aiohaul.storage.database import acquire_lock


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


async def use(path: Path) -> None:
    async with Journal(path, "a transfer"):
        pass


async def locks(path: Path) -> list[Path]:
    """The lock files of a journal while it is open."""
    async with Journal(path, "a transfer"):
        return [each for each in path.parent.iterdir() if each.suffix == ".lock"]


def database(path: Path, pragma: str = "") -> bytes:
    """Another program's database, and its bytes."""
    connection = sqlite3.connect(path)
    connection.executescript(f"{pragma}; CREATE TABLE accounts (name TEXT); VACUUM")
    connection.close()
    path.chmod(0o600)
    return path.read_bytes()


async def test_link_to_a_database_is_not_followed(tmp_path: Path) -> None:
    there, path = tmp_path / "theirs", tmp_path / "journal"
    before = database(there)
    path.symlink_to(there)
    with pytest.raises(aiohaul.JournalError, match="it is a link"):
        await use(path)
    assert there.read_bytes() == before
    assert names(tmp_path) == ["journal", "theirs"]


async def test_link_to_nothing_makes_no_file(tmp_path: Path) -> None:
    (tmp_path / "journal").symlink_to(tmp_path / "absent")
    with pytest.raises(aiohaul.JournalError, match="it is a link"):
        await use(tmp_path / "journal")
    assert names(tmp_path) == ["journal"]


@pytest.mark.parametrize("pragma", ["", "PRAGMA journal_mode = WAL"])
async def test_database_of_another_program_is_not_written_to(tmp_path: Path, pragma: str) -> None:
    path = tmp_path / "journal"
    before = database(path, pragma)
    with pytest.raises(aiohaul.JournalError, match="another program"):
        await use(path)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["journal"]


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
@pytest.mark.parametrize("suffix", ["", "-wal"])
async def test_journal_that_others_may_write_to_is_not_believed(
    tmp_path: Path, mode: int, suffix: str
) -> None:
    """A forged row "copied already" would have the source deleted."""
    path = tmp_path / "journal"
    await use(path)
    file = path.with_name(f"journal{suffix}")
    file.touch()
    file.chmod(mode)
    with pytest.raises(aiohaul.JournalError, match="can be written by other users"):
        await use(path)
    file.chmod(0o644)
    await use(path)


async def test_journal_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, user = tmp_path / "journal", os.geteuid()
    await use(path)
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pytest.raises(aiohaul.JournalError, match="belongs to another user"):
        await use(path)


def make_writable(path: Path) -> None:
    path.touch()
    path.chmod(0o666)


PLANTED: dict[str, tuple[Callable[[Path], object], str]] = {
    "link": (lambda path: path.symlink_to(path.with_name("absent")), "is a link"),
    "FIFO": (os.mkfifo, "is not a regular file"),
    "writable": (make_writable, "by other users"),
}


@pytest.mark.parametrize("planted", PLANTED)
async def test_lock_that_others_have_planted(tmp_path: Path, planted: str) -> None:
    """Whoever may open it can hold its lock, and keep every run out."""
    plant, problem = PLANTED[planted]
    (lock,) = await locks(tmp_path / "journal")
    assert not lock.exists()
    plant(lock)
    with pytest.raises(aiohaul.JournalError, match=rf"{lock.name} .*{problem}"):
        await use(tmp_path / "journal")
    assert names(tmp_path) == ["journal", lock.name]


def test_lock_that_another_holds(tmp_path: Path) -> None:
    held = acquire_lock(tmp_path / "lock")
    assert held is not None
    assert acquire_lock(tmp_path / "lock") is None
    os.close(held)
    again = acquire_lock(tmp_path / "lock")
    assert again is not None
    os.close(again)
