# a script, which prints its table
"""How long does ``task-run`` take for a transfer, from the start of its process to its end?

    python -m benchmarks.otf.bench_transfer

Objects of 1 KiB go from one bucket to another on ``rclone serve s3`` on this machine, and so
without the latency of a network; then they are deleted at their source. Beside aiohaul:
otf-addons-aws, in an environment of its own. The shorter of two runs counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.otf.reference import environment, rclone, reference_python

PROTOCOL = {"name": "opentaskpy.addons.aws.remotehandlers.s3.S3Transfer"}
DEFINITION = {
    "type": "transfer",
    "source": {
        "bucket": "from",
        "directory": "src",
        "fileRegex": ".*",
        "postCopyAction": {"action": "delete"},
        "protocol": PROTOCOL,
    },
    "destination": [{"bucket": "to", "directory": "dest", "protocol": PROTOCOL}],
}
COUNTS = (1, 100, 1000)
RUNS = 2


def seconds(python: Path, count: int) -> float:
    """The time of one process, on a server and with objects of its own."""
    with tempfile.TemporaryDirectory() as data, tempfile.TemporaryDirectory() as folder:
        for place in ("from/src", "to/dest"):
            Path(data, place).mkdir(parents=True)
        for number in range(count):
            Path(data, f"from/src/{number}.txt").write_bytes(b"x" * 1024)
        Path(folder, "variables.json").write_text("{}")
        Path(folder, "haul.json").write_text(json.dumps(DEFINITION))
        with rclone(Path(data)) as url:
            begun = time.perf_counter()
            subprocess.run(  # task-run of either environment
                [str(python.with_name("task-run")), "-t", "haul", "-c", folder],
                env=environment(url),
                capture_output=True,
                check=True,
            )
            took = time.perf_counter() - begun
        if len(list(Path(data, "to/dest").iterdir())) != count:
            raise SystemExit("not everything arrived")
    return took


def main() -> None:
    """Measure both addons with few and many objects."""
    addons = {"aiohaul": Path(sys.executable), "otf-addons-aws": reference_python()}
    print("| objects |", " | ".join(f"{name}, s" for name in addons), "|")
    print("|---|---|---|")
    for count in COUNTS:
        best = [min(seconds(each, count) for _ in range(RUNS)) for each in addons.values()]
        print(f"| {count} |", " | ".join(f"{each:.2f}" for each in best), "|", flush=True)


if __name__ == "__main__":
    main()
