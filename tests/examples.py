"""The examples of the README, as modules."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

README = Path(__file__).parents[1] / "README.md"


def block(marker: str) -> str:
    """The one block of Python in the README that has this in it."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    (found,) = [block for block in blocks if marker in block]
    return str(found)


def example(marker: str) -> ModuleType:
    """The block with this in it, run as a module."""
    module = ModuleType("example")
    exec(compile(block(marker), str(README), "exec"), vars(module))  # noqa: S102  # our own README
    return module
