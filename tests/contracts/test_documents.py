"""The documents are true: every block is executed, every name and link leads somewhere."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from markdown_it import MarkdownIt

import aiohaul
from aiohaul import errors
from aiohaul.cli.main import _parser
from tests.support.documents import blocks, executed, known_sessions, not_executed
from tests.support.markdown_files import (
    BLOCKS,
    FILES,
    PROJECT,
    WRITTEN,
    Block,
    blocks_of,
    markdown_files,
    prose_of,
    text_of,
)
from tests.support.website import gather

#: Blocks of people. The others are a benchmark's, and all of one form.
OURS = [block for block in BLOCKS if block.file != WRITTEN]
EXECUTED = executed()
MARKS = list(EXECUTED)
DEFINITIONS = [text for text in blocks("json") if "type" in json.loads(text)]
EVERYTHING = "\n".join(map(text_of, FILES))
#: What the top level holds, besides hidden files and what is built.
TOP = {
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"),
    *("benchmarks", "noxfile.py", "pyproject.toml", "src", "tests"),
}


def test_readme_is_one_page() -> None:
    assert len(text_of("README.md").splitlines()) <= 250


def test_top_level_has_the_usual_files_alone() -> None:
    git = shutil.which("git")
    if git is None or not (PROJECT / ".git").exists():
        pytest.skip("what else lies in this folder is not the project's")
    files = subprocess.run(
        [git, "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    there = {each.partition("/")[0] for each in files if each}
    assert {each for each in there if not each.startswith(".")} == TOP


# Blocks -------------------------------------------------------------------------------------


def test_every_block_is_executed() -> None:
    left = not_executed(OURS, MARKS)
    assert not left, f"add a test with @executes for {[f'{b.file}:{b.line}' for b in left]}"


@pytest.mark.parametrize("language", ["python", "json", "sh", "console", "", "toml title=x"])
@pytest.mark.parametrize("file", ["README.md", "src/aiohaul/somewhere/NEW.md"])
def test_block_that_is_added_has_to_be_executed(file: str, language: str) -> None:
    for fence in ("```", "~~~", "> ````", "    ```"):
        more = blocks_of(file, f"# Title\n\n{fence}{language}\nsomething new\n{fence}\n")
        assert [block.text for block in not_executed([*OURS, *more], MARKS)] == ["something new\n"]


@pytest.mark.parametrize("file", FILES)
def test_another_parser_finds_the_same_blocks(file: str) -> None:
    """Code that is only indented, and HTML, would be shown and not executed."""
    tokens = MarkdownIt().enable("table").parse(text_of(file))
    assert [each.content for each in tokens if each.type == "fence"] == [
        each.text for each in BLOCKS if each.file == file
    ]
    html = [each.content for each in tokens if each.type == "html_block"]
    assert all(re.fullmatch(r"<!--[^>]*-->\n", each) for each in html)
    assert not [each for each in tokens if each.type == "code_block"]


def test_file_that_is_added_is_found_in_any_folder(tmp_path: Path) -> None:
    for name in ("README.md", "src/a/b/README.md", "benchmarks/x/MORE.md", "tests/NEW.md"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("# Title\n")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "README.md").write_text("# Somebody else's\n")
    assert markdown_files(tmp_path) == [
        "README.md",
        "benchmarks/x/MORE.md",
        "src/a/b/README.md",
        "tests/NEW.md",
    ]


def test_block_is_executed_by_one_mark() -> None:
    assert len(MARKS) == len(OURS)
    elsewhere = {name for names in EXECUTED.values() for name in names}
    assert elsewhere == {
        "test_airflow_guide.py",
        "test_backgrounds.py",
        "test_cancelled.py",
        "test_celery.py",
        "test_document_blocks.py",
        "test_fastapi.py",
        "test_kernel.py",
        "test_other_loops.py",
        "test_prefect.py",
        "test_servers.py",
    }


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.file == WRITTEN])
def test_profile_of_a_benchmark_has_the_form_of_one(block: Block) -> None:
    shares, *functions = block.text.splitlines()
    parts = [int(each) for each in re.findall(r" (\d+)%(?:, |$)", shares)]
    assert 95 <= sum(parts) <= 105
    assert functions
    for each in functions:
        assert re.fullmatch(r" *\d+\.\d%  \S.*", each)


def test_every_block_says_its_language() -> None:
    assert {block.language for block in OURS} <= {"python", "json", "sh", "text"}


@pytest.mark.parametrize("text", DEFINITIONS)
def test_definitions_are_valid(text: str) -> None:
    aiohaul.validate(json.loads(text))


@pytest.mark.parametrize("text", blocks("python"))
def test_code_imports_what_is_there(text: str) -> None:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module == "aiohaul":
            assert {alias.name for alias in node.names} <= {*aiohaul.__all__, "blocking"}


# Names --------------------------------------------------------------------------------------


def test_files_that_are_named_are_there() -> None:
    named = set(re.findall(r"`((?:tests|benchmarks|aiohaul|src)/[\w./]+)", EVERYTHING))
    assert len(named) > 50
    for each in named:
        assert (PROJECT / each).exists() or (PROJECT / "src" / each).exists(), each
    for module in re.findall(r"python -m (benchmarks[\w.]+)", EVERYTHING):
        assert (PROJECT / f"{module.replace('.', '/')}.py").exists(), module


def test_sessions_that_are_named_are_there() -> None:
    sessions = set(re.findall(r"nox -s \"?(\w+)", EVERYTHING))
    assert {"docs", "faults", "soak"} <= sessions <= known_sessions()


def test_options_that_are_named_are_there() -> None:
    """Of every command that is named, and of those that stand alone in the text."""
    (commands,) = [each for each in _parser()._actions if each.dest == "==SUPPRESS=="] or [
        each for each in _parser()._actions if each.choices
    ]
    assert isinstance(commands.choices, dict)
    options = {
        name: set(command._option_string_actions) for name, command in commands.choices.items()
    }
    named = re.findall(
        r"(?:^|[`/ ])aiohaul ([\w-]+)((?: [^`\n]*)?)", EVERYTHING, flags=re.MULTILINE
    )
    of_commands = [(name, rest) for name, rest in named if name in options]
    assert {name for name, _ in of_commands} == options.keys()
    for name, rest in of_commands:
        assert set(re.findall(r"(?<= )--\w[\w-]*", rest.split(" #")[0])) <= options[name], rest
    alone = set(re.findall(r"`(--[a-z][\w-]*)(?: [A-Z]+)?`", EVERYTHING))
    assert alone <= set().union(*options.values()) | {"--version", "--graceful-timeout"}


@pytest.mark.parametrize("file", [each for each in FILES if each != "CHANGELOG.md"])
def test_errors_that_are_named_are_there(file: str) -> None:
    named = set(re.findall(r"`([A-Z]\w+Error)`", prose_of(file)))
    assert named <= set(aiohaul.__all__) | {"InternalError"}


@pytest.mark.parametrize("file", FILES)
def test_attributes_of_the_package_that_are_named_are_there(file: str) -> None:
    for name in set(re.findall(r"`aiohaul((?:\.\w+)+)\(?", prose_of(file))):
        parts = name.split(".")[1:]
        if not _is_told_by_telemetry(f"aiohaul{name}"):
            found: object = aiohaul
            for part in parts:
                if isinstance(found, ModuleType) and not hasattr(found, part):
                    found = importlib.import_module(f"{found.__name__}.{part}")
                else:
                    found = getattr(found, part)


def _is_told_by_telemetry(name: str) -> bool:
    """Loggers, spans and metrics have names of the same form: each stands in the code."""
    return any(
        f'"{name}"' in file.read_text()
        for file in (PROJECT / "src" / "aiohaul").rglob("*.py")
        if file.parent.name == "telemetry" or file.name == "logs.py"
    )


def test_tree_of_errors_has_every_class() -> None:
    parents = ["HaulError"]
    tree = {"HaulError": "PicklableError"}
    for line in str(errors.__doc__).splitlines():
        found = re.match(r"((?:[│ ] {3})*)[├└]── (\w+)", line)
        if found is not None:
            depth = len(found[1]) // 4 + 1
            parents[depth:] = [found[2]]
            tree[found[2]] = parents[depth - 1]
    classes = {
        name: each.__bases__[0].__name__
        for name, each in vars(errors).items()
        if isinstance(each, type) and issubclass(each, errors.HaulError)
    }
    assert tree == classes


# Links --------------------------------------------------------------------------------------


def anchors(file: str) -> set[str]:
    """The anchors of a document's headings, as code hosts and the site make them."""
    headings = re.findall(r"^#+ (.*)$", prose_of(file), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each).strip().lower().replace(" ", "-") for each in headings}


@pytest.mark.parametrize("file", FILES)
def test_links_lead_somewhere(file: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(file)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = ((PROJECT / file).parent / path).resolve() if path else PROJECT / file
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there.relative_to(PROJECT).as_posix()), target


@pytest.mark.parametrize("file", FILES)
def test_document_has_one_title(file: str) -> None:
    titles = re.findall(r"^# .+$", prose_of(file), flags=re.MULTILINE)
    assert len(titles) == 1
    assert text_of(file).startswith(titles[0])


def test_every_document_is_on_the_site_once() -> None:
    on_site = [page.file for part in gather.PARTS.values() for page in part]
    assert sorted([*on_site, "README.md"]) == sorted(FILES)
    names = [page.name for part in gather.PARTS.values() for page in part]
    assert len(set(names)) == len(names)


def test_links_lead_from_page_to_page_on_the_site(tmp_path: Path) -> None:
    gather.write_pages(tmp_path)
    written = {each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*.md")}
    assert "index.md" in written
    for name in written:
        text = (tmp_path / name).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)\s#]+)[^)\s]*\)", gather.without_blocks(text)):
            if "://" not in target:
                assert ((tmp_path / name).parent / target).exists(), (name, target)


# What is shipped ----------------------------------------------------------------------------


def test_guides_are_in_the_source_distribution_and_not_in_the_wheel(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(PROJECT)).build(directory=str(tmp_path), versions=["standard"])
    names = zipfile.ZipFile(wheel).namelist()
    assert "aiohaul/session.py" in names
    assert [name for name in names if name.endswith(".md")] == []
    (sdist,) = SdistBuilder(str(PROJECT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(sdist) as archive:
        shipped = {name.partition("/")[2] for name in archive.getnames()}
    assert set(FILES) <= shipped
