"""The documents as tests take them: their blocks, and which test executes which."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import markdown_files
from tests.support.commands import Ended, ended, started
from tests.support.markdown_files import BLOCKS, PROJECT, Block, with_mark
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store

#: Names of calls that hand a block to a test: ``@executes(mark)``, ``block(mark)``, and so on.
_HANDED_OVER = ("executes", "block", "example")


def blocks(language: str) -> list[str]:
    return [block.text for block in BLOCKS if block.language == language]


def executes(mark: str) -> pytest.MarkDecorator:
    """Hand the one block that has this mark to a test, as ``block``."""
    block = with_mark(mark)
    return pytest.mark.parametrize("block", [block.text], ids=[f"{block.file}:{block.line}"])


def executed() -> dict[str, list[str]]:
    """The mark of every block that a test takes: the test modules that take it."""
    found: dict[str, list[str]] = {}
    for file in sorted((PROJECT / "tests").rglob("test_*.py")):
        for mark in set(_executed_in(ast.parse(file.read_text(encoding="utf-8")))):
            found.setdefault(mark, []).append(file.name)
    return found


def _executed_in(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            decorates = node.func.id == "executes" if isinstance(node.func, ast.Name) else False
            if not decorates:
                yield from _mark(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _takes_block(node):
            for decorator in node.decorator_list:
                yield from _mark(decorator)


def _takes_block(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """True for a test that has an argument ``block``, and uses it."""
    return (
        function.name.startswith("test_")
        and any(argument.arg == "block" for argument in function.args.args)
        and any(isinstance(node, ast.Name) and node.id == "block" for node in ast.walk(function))
    )


def _mark(node: ast.AST) -> list[str]:
    match node:
        case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(mark))]):
            return [mark] if name in _HANDED_OVER else []
    return []


def known_sessions() -> set[str]:
    text = (PROJECT / "noxfile.py").read_text()
    return set(re.findall(r"^@nox\.session.*\n(?:@.*\n)*def (\w+)", text, flags=re.MULTILINE))


def not_executed(found: list[Block], marks: list[str]) -> list[Block]:
    """Those of the blocks that no test runs: they have none of the marks."""
    run = {markdown_files.with_mark(mark, found) for mark in marks}
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
    """A reader's shell: the keys and the endpoint that the documents name, and the commands."""
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
