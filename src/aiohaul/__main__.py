"""The command line: ``aiohaul`` and ``python -m aiohaul``.

The garbage collector is off during the imports. Collections would take a tenth of the start time,
and would free nothing.
"""

import gc
import sys


def main() -> int:
    """Run the command line of this process, and return the exit code."""
    gc.disable()
    from aiohaul.cli import main as cli  # noqa: PLC0415  # while the collector is off

    gc.freeze()  # modules are never freed, so no collection needs to scan them
    gc.enable()
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
