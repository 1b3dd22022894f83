"""``aiohaul`` and ``python -m aiohaul``: the command line.

It starts without collections of garbage: they would take a tenth of that time, and nothing that is
imported is garbage.
"""

import gc
import sys


def main() -> int:
    """Carry out the command line of this process, and return the exit code."""
    gc.disable()
    from aiohaul import cli  # noqa: PLC0415  # now

    gc.freeze()  # what was imported stays: no collection needs to look at it
    gc.enable()
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
