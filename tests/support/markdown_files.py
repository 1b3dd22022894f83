"""Every Markdown file of the project, and the fenced blocks in them.

Nothing but the standard library: the applications' and orchestrators' environments read it too.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

PROJECT = Path(__file__).parents[2]
#: Folders that hold no documents of this project, besides hidden ones.
_OTHERS = {"build", "dist", "venv", "node_modules", "__pycache__"}
#: Written by a program: blocks of the same text may stand in it any number of times.
WRITTEN = "benchmarks/RESULTS.md"


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        file: the path of the document, from the project's folder.
        language: the text behind the opening fence.
        text: the lines between the fences.
        line: the line of the opening fence, from 1.
    """

    file: str
    language: str
    text: str
    line: int


def markdown_files(root: Path = PROJECT) -> list[str]:
    """All Markdown files, as paths from the root; the README comes first."""
    found = []
    for folder, below, names in os.walk(root):
        # Not looked into: tests leave files with names there that are too long for a path.
        below[:] = [each for each in below if each not in _OTHERS and not each.startswith(".")]
        at = Path(folder).relative_to(root)
        found += [(at / name).as_posix() for name in names if name.endswith(".md")]
    return sorted(found, key=lambda each: (each != "README.md", each))


def text_of(file: str) -> str:
    """The text of one document."""
    return (PROJECT / file).read_text(encoding="utf-8")


def blocks_of(file: str, document: str) -> list[Block]:
    """All blocks of a document.

    Every line of three backticks or tildes opens a block or ends it: no block can be missed.
    """
    found, opened = list[Block](), None
    lines = document.splitlines()
    for number, line in enumerate(lines):
        fence = re.fullmatch(r"[\s>]*(?:`{3,}|~{3,})(.*)", line)
        if fence is None:
            continue
        if opened is None:
            opened = (number, fence[1].strip())
            continue
        begin, language = opened
        text = "\n".join(lines[begin + 1 : number]) + "\n"
        found.append(Block(file, language, text, begin + 1))
        opened = None
    assert opened is None, f"the block of line {opened} of {file} does not end"
    return found


def prose_of(file: str) -> str:
    """A document without its blocks."""
    lines = text_of(file).splitlines()
    for block in blocks_of(file, text_of(file)):
        length = block.text.count("\n") + 2
        lines[block.line - 1 : block.line - 1 + length] = [""] * length
    return "\n".join(lines)


FILES = markdown_files()
BLOCKS = [block for file in FILES for block in blocks_of(file, text_of(file))]


def with_mark(mark: str, among: list[Block] | None = None) -> Block:
    """The one block that has this text in it."""
    found = [block for block in (BLOCKS if among is None else among) if mark in block.text]
    assert len(found) == 1, f"{len(found)} blocks have {mark!r}: {[b.file for b in found]}"
    return found[0]


def block(mark: str) -> str:
    """The text of the one block that has this in it."""
    return with_mark(mark).text


def example(mark: str) -> ModuleType:
    """The one block that has this in it, run as a module."""
    found = with_mark(mark)
    module = ModuleType("example")
    exec(compile(found.text, found.file, "exec"), vars(module))  # noqa: S102  # our own example
    return module
