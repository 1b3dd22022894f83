# a script
"""Many threads with many handlers in one process, each of which lists and copies an object.

Run by ``bench_handlers.py`` with the Python of either environment: it needs nothing but the
framework and an addon. Prints what it cost as JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from opentaskpy.addons.aws.remotehandlers.s3 import S3Transfer

PROTOCOL = {"name": "opentaskpy.addons.aws.remotehandlers.s3.S3Transfer"}


def resident() -> float:
    """MiB of memory that the process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def side(bucket: str, directory: str, name: str) -> Any:
    """A handler."""
    spec = {"bucket": bucket, "directory": directory, "fileRegex": ".*", "protocol": dict(PROTOCOL)}
    return S3Transfer({**spec, "task_id": name})


def use(handler: Any, there: Any, number: int) -> None:
    """What a task does with its handlers."""
    found = handler.list_files(f"src{number % 10}", ".*")
    if len(found) != 1 or handler.transfer_files(found, {}, dest_remote_handler=there):
        raise SystemExit("the handler did not do its work")


def main() -> None:
    """Make and use them all at once, and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("threads", type=int)
    parser.add_argument("each", type=int)
    given = parser.parse_args()

    def work(number: int) -> list[Any]:
        meet.wait()
        # Half of a task's handlers are its source, half its destination.
        made = []
        for turn in range(given.each // 2):
            name = f"t{number}-{turn}"
            here = side("source", f"src{number % 10}", name)
            there = side("night", f"in/{name}", name)
            use(here, there, number)
            made += [here, there]
        return made

    side("source", "", "first").tidy()  # what the first handler of a process costs is paid now
    gc.collect()
    before, begun, cpu = resident(), time.perf_counter(), time.process_time()
    meet = threading.Barrier(given.threads)
    with ThreadPoolExecutor(given.threads) as pool:
        made = [each for some in pool.map(work, range(given.threads)) for each in some]
        seconds, busy = time.perf_counter() - begun, time.process_time() - cpu
        # Neither the main thread nor those that a batch makes for its tasks.
        more = threading.active_count() - given.threads - 1
        gc.collect()
        after = resident()
    for handler in made:
        handler.tidy()
    figures = {
        "handlers": len(made),
        "mib": after - before,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "seconds": seconds,
        "cpu": busy,
        "threads": more,
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
