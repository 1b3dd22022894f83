"""Handlers of the addon that aiohaul replaces, each in a thread, look into their directories.

Run by ``bench_watches.py`` with the Python of the addon's own environment: it needs nothing but the
framework and the addon. Prints what it cost as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import asdict

from benchmarks.watches.course import INTERVAL, Course, place
from opentaskpy.addons.aws.remotehandlers.s3 import S3Transfer


def main() -> None:
    """Make the handlers, let them look, and print the figures."""
    url, watches = sys.argv[1], int(sys.argv[2])
    course = Course(url, watches)
    over = threading.Event()
    first = threading.Semaphore(0)

    def watch(number: int) -> None:
        directory, regex = place(number)
        protocol = {"name": "opentaskpy.addons.aws.remotehandlers.s3.S3Transfer"}
        spec = {"bucket": "bucket", "directory": directory, "fileRegex": regex}
        handler = S3Transfer({**spec, "protocol": protocol, "task_id": f"watch-{number}"})
        known = set(handler.list_files(directory, regex))
        first.release()
        due = time.monotonic() + INTERVAL * (number % 50 + 1) / 50
        while not over.wait(max(due - time.monotonic(), 0)):
            found = set(handler.list_files(directory, regex))
            for key in found - known:
                course.seen(key.rpartition("/")[2])
            known = found
            due = max(due + INTERVAL, time.monotonic())

    threads = [threading.Thread(target=watch, args=(number,)) for number in range(watches)]
    for thread in threads:
        thread.start()
    for _ in threads:
        first.acquire()
    for seconds in course.steps():
        time.sleep(seconds)
    over.set()
    for thread in threads:
        thread.join()
    print(json.dumps(asdict(course.measured)))


if __name__ == "__main__":
    main()
