"""The ways to have S3 copy small objects to some buckets, each a command or more."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import surroundings
from benchmarks.harness.processes import Commands, python
from benchmarks.harness.surroundings import REGION, S3_PROTOCOL, SCRIPTS

#: Requests in flight of the peers; aiohaul has as many by itself.
WIDTH = 256
SOURCE = "source"


def definition(url: str, source: str, directory: str, buckets: Sequence[str]) -> dict[str, object]:
    """What Open Task Framework, and ``aiohaul run``, copy all objects of a directory with."""
    protocol = {**S3_PROTOCOL, "endpoint_url": url} if url else S3_PROTOCOL
    found = {"bucket": SOURCE, "directory": source, "fileRegex": ".*", "protocol": protocol}
    return {
        "type": "transfer",
        "source": {**found, "error": False},
        "destination": [
            {"bucket": bucket, "directory": directory, "protocol": protocol} for bucket in buckets
        ],
    }


def aiohaul(
    url: str, source: str, directory: str, buckets: Sequence[str], folder: Path
) -> Commands:
    """A definition and ``aiohaul run``."""
    path = folder / f"{directory}.json"
    path.write_text(json.dumps(definition(url, source, directory, buckets)))
    return [[str(SCRIPTS / "aiohaul"), "run", "--quiet", str(path)]]


def s5cmd(url: str, source: str, directory: str, buckets: Sequence[str], folder: Path) -> Commands:
    """A file of a command for each bucket."""
    path = folder / f"{directory}.txt"
    commands = [f"cp s3://{SOURCE}/{source}/* s3://{bucket}/{directory}/" for bucket in buckets]
    path.write_text("\n".join(commands) + "\n")
    quiet = ["--log", "error", "--endpoint-url", url]
    return [[surroundings.s5cmd(), *quiet, "--numworkers", str(WIDTH), "run", str(path)]]


def rclone(url: str, source: str, directory: str, buckets: Sequence[str], folder: Path) -> Commands:
    """A process for each bucket, together as wide; without looks at what is there."""
    remote = f":s3,provider=Other,env_auth=true,region={REGION},endpoint='{url}'"
    wide = str(WIDTH // len(buckets))
    options = ["--transfers", wide, "--checkers", wide, "--s3-no-check-bucket", "--size-only"]
    options += [
        "--s3-list-version",
        "2",
        "--no-check-dest",
        "--quiet",
        "--config",
        str(folder / "none.conf"),
    ]
    return [
        [
            surroundings.rclone(),
            "copy",
            *options,
            f"{remote}:{SOURCE}/{source}",
            f"{remote}:{bucket}/{directory}",
        ]
        for bucket in buckets
    ]


def loop(
    url: str,
    source: str,
    directory: str,
    buckets: Sequence[str],
    folder: Path,  # noqa: ARG001  # all ways are called alike
) -> Commands:
    """This module, as a process that only copies."""
    return [python("benchmarks.copies.peers", url, source, directory, *buckets)]


WAYS = {
    "aiohaul run": aiohaul,
    "s5cmd run": s5cmd,
    "rclone copy, one a bucket": rclone,
    f"aiobotocore, {WIDTH} at once": loop,
}


async def plain(url: str, source: str, directory: str, buckets: Sequence[str]) -> None:
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
                    CopySource={"Bucket": SOURCE, "Key": key},
                    ACL="bucket-owner-full-control",
                )

        pages = client.get_paginator("list_objects_v2").paginate(Bucket=SOURCE, Prefix=f"{source}/")
        keys = [each["Key"] async for page in pages for each in page["Contents"]]
        async with asyncio.TaskGroup() as tasks:
            for key in keys:
                for bucket in buckets:
                    tasks.create_task(copy(key, bucket))


if __name__ == "__main__":
    asyncio.run(plain(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]))
