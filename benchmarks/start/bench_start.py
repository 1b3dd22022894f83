"""What does a whole process cost that does next to nothing?

    python -m benchmarks.start.bench_start

One object of 1 KiB goes from one bucket to another on ``rclone serve s3`` on this machine, in a
process of its own: ``aiohaul run``, ``aws s3 cp`` in an environment of its own, s5cmd and rclone.
And a first request from Python: the import, a client and one HEAD, beside boto3 and aiobotocore.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from functools import partial
from pathlib import Path

from benchmarks.harness import servers, surroundings
from benchmarks.harness.drawing import bars
from benchmarks.harness.processes import CPU, PEAK, SECONDS, Commands, Figures, cost
from benchmarks.harness.results import Result, Table, aim, parser, show
from benchmarks.harness.rounds import in_turns, medians
from benchmarks.harness.surroundings import KEY, REGION, S3_PROTOCOL, SECRET, environment

AWS_CLI = "awscli==1.46.3"
OURS = "aiohaul run"
DEFINITION = {
    "type": "transfer",
    "source": {
        "bucket": "source",
        "directory": "src",
        "fileRegex": ".*",
        "protocol": S3_PROTOCOL,
    },
    "destination": [{"bucket": "night", "directory": "dest", "protocol": S3_PROTOCOL}],
}
FIRST_REQUESTS = {
    "aiohaul": """
import asyncio
from aiohaul import Session

async def main():
    async with Session() as session:
        await session.s3().head("source", "src/0.txt")

asyncio.run(main())
""",
    "boto3": """
import boto3
boto3.client("s3").head_object(Bucket="source", Key="src/0.txt")
""",
    "aiobotocore": """
import asyncio
from aiobotocore.session import get_session

async def main():
    async with get_session().create_client("s3") as client:
        await client.head_object(Bucket="source", Key="src/0.txt")

asyncio.run(main())
""",
    "obstore": """
import os
from obstore.store import S3Store
store = S3Store(
    "source", endpoint=os.environ["AWS_ENDPOINT_URL"], client_options={"allow_http": True},
    virtual_hosted_style_request=False,
)
store.head("src/0.txt")
""",
    "Python alone, with asyncio and ssl": "import asyncio, json, ssl",
}


def aws_cli() -> Path:
    """aws-cli in an environment of its own, from PyPI; made at the first use."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    home = cache / "aiohaul-benchmarks" / AWS_CLI.replace("==", "-")
    done = home / "complete"
    if not done.exists():
        venv.create(home, clear=True, with_pip=True)
        python = str(home / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", AWS_CLI], check=True)
        done.touch()
    return home / "bin" / "aws"


def copies(url: str, folder: Path) -> dict[str, Commands]:
    """The commands that copy the object."""
    definition = folder / "haul.json"
    definition.write_text(json.dumps(DEFINITION))
    ours = str(Path(sys.executable).with_name("aiohaul"))
    remote = (
        f":s3,provider=Other,endpoint='{url}',access_key_id={KEY},secret_access_key={SECRET}"
        f",region={REGION},force_path_style=true:"
    )
    source, to = "s3://source/src/0.txt", "s3://night/dest/0.txt"
    return {
        OURS: [[ours, "run", str(definition), "--quiet"]],
        "aws s3 cp": [[str(aws_cli()), "s3", "cp", "--quiet", source, to]],
        "s5cmd cp": [[surroundings.s5cmd(), "--endpoint-url", url, "cp", source, to]],
        "rclone copyto": [
            [
                *(surroundings.rclone(), "copyto", "--quiet", "--config", "/dev/null"),
                *(f"{remote}source/src/0.txt", f"{remote}night/dest/0.txt"),
            ]
        ],
    }


def once(name: str, place: Path) -> Figures:
    """What one process costs, with an empty destination."""
    with tempfile.TemporaryDirectory() as folder, servers.rclone(place) as served:
        arrived = place / "night" / "dest" / "0.txt"
        arrived.unlink(missing_ok=True)
        commands = copies(served.url, Path(folder))[name]
        spent = cost(commands, environment(AWS_ENDPOINT_URL=served.url))
        if not arrived.exists():
            raise SystemExit(f"{name} copied nothing")
    return spent


def first_request(name: str, place: Path) -> Figures:
    """What a process costs that imports a library and sends one request."""
    with servers.rclone(place) as served:
        command = [sys.executable, "-c", FIRST_REQUESTS[name]]
        return cost([command], environment(AWS_ENDPOINT_URL=served.url))


def measure(chosen: argparse.Namespace) -> Result:
    """Both questions."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for directory in ("source/src", "night/dest"):
            (place / directory).mkdir(parents=True)
        (place / "source" / "src" / "0.txt").write_bytes(b"x" * 1024)
        names = copies("http://127.0.0.1", place)
        (place / "haul.json").unlink()
        whole = {name: partial(once, name, place) for name in names}
        copied = Table(
            "One object of 1 KiB, a whole process",
            medians(in_turns(whole, chosen.rounds)),
            compared=(SECONDS, CPU, PEAK),
        )
        requests = {name: partial(first_request, name, place) for name in FIRST_REQUESTS}
        first = Table(
            "Import, client and a first request",
            medians(in_turns(requests, chosen.rounds)),
            compared=(SECONDS, CPU, PEAK),
            aside=("Python alone, with asyncio and ssl",),
        )
    rows = copied.rows
    notes = [
        aim(
            f"at most 0.35 x aws s3 cp: {column}",
            rows[OURS][column],
            rows["aws s3 cp"][column] * 0.35,
        )
        for column in (SECONDS, CPU)
    ]
    notes += [
        aim("at most 4.5 x s5cmd: seconds", rows[OURS][SECONDS], rows["s5cmd cp"][SECONDS] * 4.5),
        aim("at most 40 MiB", rows[OURS][PEAK], 40),
        aim(
            "a first request at most 0.6 x boto3's: seconds",
            first.rows["aiohaul"][SECONDS],
            first.rows["boto3"][SECONDS] * 0.6,
        ),
    ]
    how = (
        "Whole processes on `rclone serve s3`, without latency;"
        f" {chosen.rounds} rounds, medians, ratios to aiohaul."
    )
    notes += copied.losses() + first.losses()
    return Result("The start", how, [copied, first], notes, plot="start.svg")


def main() -> None:
    """Measure, print and draw."""
    arguments = parser(__doc__, rounds=15)
    chosen = arguments.parse_args()
    if chosen.quick:
        chosen.rounds = 1
    show(measure(chosen), chosen, bars((SECONDS, CPU, PEAK)))


if __name__ == "__main__":
    main()
