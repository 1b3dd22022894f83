"""Paths that the operating system refuses to look at: an error that says so, on every Python.

``pathlib`` answers False to some of these errors, and to all of them since Python 3.14.
"""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest
from aiobotocore.session import AioSession

import aiohaul
from aiohaul.aws import models
from aiohaul.s3.local import check_directory
from aiohaul.storage.private_files import file_type, write_private
from aiohaul.tasks.definition_source import FolderSource
from tests.support.commands import aiohaul as command
from tests.support.package import modules

#: How the paths are refused: the end of the error's sentence.
REFUSALS = {"long": "File name too long", "loop": "Too many levels of symbolic links"}
#: Of pathlib and os.path: each takes errors for an answer, on some Python or on all.
_HIDES_ERRORS = {
    *("exists", "lexists", "is_dir", "is_file", "is_mount", "is_symlink", "is_junction"),
    *("is_socket", "is_fifo", "is_block_device", "is_char_device"),
    *("isdir", "isfile", "islink", "ismount", "glob", "rglob"),
}


@pytest.fixture(params=REFUSALS)
def refused(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A path that cannot be looked at, and what the error says."""
    if request.param == "long":
        path = tmp_path / ("d" * 300)
    else:
        path = tmp_path / "loop"
        path.symlink_to("loop")
    return path, REFUSALS[request.param]


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A folder below which there is one whose path is too long."""
    here, name = os.open(tmp_path, os.O_RDONLY), "d" * 250
    for _ in range(20):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    return tmp_path


async def test_directory_that_files_go_to(refused: tuple[Path, str]) -> None:
    path, problem = refused
    with pytest.raises(aiohaul.LocalFileError) as failed:
        await check_directory(path, create=False)
    assert str(failed.value) == f"reading {path} failed: {problem}"


async def test_directory_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("absent", "file", "file/below"):
        with pytest.raises(aiohaul.LocalFileError, match=f"{name} is not a directory"):
            await check_directory(tmp_path / name, create=False)


def test_folder_of_tasks(refused: tuple[Path, str]) -> None:
    path, problem = refused
    with pytest.raises(aiohaul.DefinitionError, match=f"{path}, cannot be read: {problem}"):
        FolderSource(path)


def test_folder_below_the_folder_of_tasks(deep: Path) -> None:
    """It is named where a task is not found; those that are found are served."""
    (deep / "load.json").write_text("{}")
    library = FolderSource(deep)
    assert library.find("load") == {}
    with pytest.raises(aiohaul.DefinitionError, match=r"no night\.json .* cannot be read: .*long"):
        library.find("night")


async def test_journal_to_clean(refused: tuple[Path, str], tmp_path: Path) -> None:
    path, problem = refused
    done = await command("clean", tmp_path / "any.json", "--journal", path)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"aiohaul: reading {path} failed: {problem}\n"


def test_report(refused: tuple[Path, str]) -> None:
    path, problem = refused
    with pytest.raises(OSError, match=problem):
        write_private(path, b"{}")
    assert not [each for each in path.parent.iterdir() if each.suffix == ".part"]


def test_a_nul_is_a_value_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="null"):
        file_type(tmp_path / "\0")


def test_descriptions_of_services_are_looked_for_elsewhere(
    refused: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As botocore does: AWS_DATA_PATH may be the whole machine's."""
    path, _ = refused
    monkeypatch.setenv("AWS_DATA_PATH", f"~nobody-of-this-name/models:{path}")
    loader = models.loader(AioSession())
    assert loader.load_service_model("sqs", "service-2")["metadata"]["serviceId"] == "SQS"


@pytest.mark.parametrize("file", modules, ids=lambda file: file.name)
def test_no_look_takes_an_error_for_an_answer(file: Path) -> None:
    """``file_type`` and ``os.stat`` do not. What has a reason to says so: noqa: PTH."""
    text = file.read_text()
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            excused = re.search("noqa: PTH", lines[node.lineno - 1])
            assert node.func.attr not in _HIDES_ERRORS or excused, f"{file}:{node.lineno}"
