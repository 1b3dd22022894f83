"""The command line, as processes of the tests' own."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Ended:
    code: int
    out: str
    err: str


async def start(*arguments: object, **more: Any) -> asyncio.subprocess.Process:
    return await started(sys.executable, "-m", "aiohaul", *arguments, **more)


async def started(*command: object, **more: Any) -> asyncio.subprocess.Process:
    """Any command, with its output in pipes."""
    return await asyncio.create_subprocess_exec(
        *map(str, command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        **more,
    )


async def ended(process: asyncio.subprocess.Process) -> Ended:
    out, err = await process.communicate()
    assert process.returncode is not None
    assert "Traceback" not in err.decode()
    return Ended(process.returncode, out.decode(), err.decode())


async def aiohaul(*arguments: object) -> Ended:
    return await ended(await start(*arguments))


def written(directory: Path, definition: Any) -> Path:
    file = directory / "definition.json"
    file.write_text(definition if isinstance(definition, str) else json.dumps(definition))
    return file
