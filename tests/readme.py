"""The README as the tests take it: its blocks, and which test executes which."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from servers import KEY, REGION, SECRET
from store import Store
from test_cli import Ended, ended, started

HERE = Path(__file__).parent
PROJECT = HERE.parent
README = (PROJECT / "README.md").read_text(encoding="utf-8")
#: What is executed where what it needs is installed, and by what, is found in these.
ELSEWHERE = (HERE / "apps", HERE / "orchestrators")
#: What executes all others.
EXECUTING = HERE / "test_readme_blocks.py"


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: what stands behind the fence.
        text: what is in it.
        line: of the README, where it begins.
    """

    language: str
    text: str
    line: int


def blocks_of(document: str) -> list[Block]:
    """All of them. Every line of three backticks opens one or ends one: none can be missed."""
    found, opened = list[Block](), None
    lines = document.splitlines()
    for number, line in enumerate(lines):
        fence = re.fullmatch(r"\s*`{3,}(.*)", line)
        if fence is None:
            continue
        if opened is None:
            opened = (number, fence[1])
            continue
        begin, language = opened
        text = "\n".join(lines[begin + 1 : number]) + "\n"
        found.append(Block(language, text, begin + 1))
        opened = None
    assert opened is None, f"the block of line {opened} does not end"
    return found


BLOCKS = blocks_of(README)


def blocks(language: str) -> list[str]:
    return [block.text for block in BLOCKS if block.language == language]


def with_mark(mark: str, among: list[Block] | None = None) -> Block:
    found = [block for block in (BLOCKS if among is None else among) if mark in block.text]
    assert len(found) == 1, f"{len(found)} blocks of the README have {mark!r}"
    return found[0]


def executes(mark: str) -> pytest.MarkDecorator:
    """Hand the one block that has this mark to a test, as ``block``."""
    block = with_mark(mark)
    return pytest.mark.parametrize("block", [block.text], ids=[f"line-{block.line}"])


def executed_here() -> list[str]:
    """The mark of each ``@executes(mark)`` before a test that takes the block."""
    return [
        mark
        for node in ast.walk(ast.parse(EXECUTING.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and any(
            argument.arg == "block" and _is_used(argument.arg, node) for argument in node.args.args
        )
        for decorator in node.decorator_list
        for mark in _mark(decorator, "executes")
    ]


def executed_elsewhere() -> dict[str, str]:
    """The mark of each ``example(mark)`` and ``block(mark)`` in these: the file that has it."""
    return {
        mark: file.name
        for directory in ELSEWHERE
        for file in sorted(directory.glob("test_*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        for called in ("example", "block")
        for mark in _mark(node, called)
    }


def _is_used(name: str, function: ast.AST) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(function))


def _mark(node: ast.AST, called: str) -> list[str]:
    match node:
        case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(mark))]):
            return [mark] if name == called else []
    return []


def known_sessions() -> set[str]:
    text = (PROJECT / "noxfile.py").read_text()
    return set(re.findall(r"^@nox\.session.*\n(?:@.*\n)*def (\w+)", text, flags=re.MULTILINE))


def not_executed(document: str, marks: list[str]) -> list[Block]:
    """The blocks of a document that no test runs: those which have none of the marks."""
    found = blocks_of(document)
    run = {with_mark(mark, found) for mark in marks}
    return [block for block in found if block not in run]


@dataclass
class World:
    """Where a reader tries things: a directory, an environment, and what is in the buckets."""

    directory: Path
    environment: dict[str, str]
    s3: Store

    async def start(self, *command: object, **more: str) -> Any:
        return await started(
            *command, env={**self.environment, **more}, cwd=self.directory, start_new_session=True
        )

    async def run(self, *command: object, code: int = 0, **more: str) -> Ended:
        done = await ended(await self.start(*command, **more))
        assert done.code == code, done.err
        return done

    async def python(self, text: str, *, code: int = 0, **more: str) -> Ended:
        return await self.run(sys.executable, self.file("example.py", text), code=code, **more)

    async def shell(self, text: str, **more: str) -> Ended:
        return await self.run("bash", "-euo", "pipefail", "-c", text, code=0, **more)

    async def fill(self, *buckets: str, **objects: bytes) -> None:
        """Make the buckets, and put objects below ``src/`` into the first one."""
        for bucket in buckets:
            await self.s3.bucket(bucket)
        await self.s3.fill(
            buckets[0], {f"src/{name.replace('_', '.')}": data for name, data in objects.items()}
        )

    def file(self, name: str, text: str) -> Path:
        file = self.directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file


def environment(url: str, **urls: str) -> dict[str, str]:
    """A reader's shell: the keys and the endpoint that the README names, and the commands."""
    scripts = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": REGION,
        **{f"AWS_ENDPOINT_URL_{service}": each for service, each in urls.items()},
    }


@asynccontextmanager
async def stopped_at_the_end(process: Any, signal: int) -> AsyncIterator[Any]:
    """A command that goes on until it is told to end."""
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal)
        await process.wait()


def without(value: Any, *names: str) -> Any:
    """A mapping without some of its keys."""
    assert isinstance(value, Mapping)
    return {key: each for key, each in value.items() if key not in names}
