"""Runs definitions on the command line, each in a process of its own, until that is killed.

Each line of its input is a JSON list: the file of a definition, and of a journal. It prints the id
of the process, and once that has ended, how. The processes are forked: importing takes longer than
what they do.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from aiohaul.cli.main import main  # the path comes first
from tests.support import quick  # as above


def serve() -> None:
    quick.quicken(setattr)
    quick.wait_longer(setattr)
    for line in sys.stdin:
        file, journal = json.loads(line)
        child = os.fork()
        if not child:
            os._exit(main(["run", file, "--journal", journal, "--quiet"]))
        print(child, flush=True)  # noqa: T201  # for who asked
        _, status = os.waitpid(child, 0)
        print(status, flush=True)  # noqa: T201  # as above


if __name__ == "__main__":
    serve()
