"""How many server-side copies a second one process makes, and one and two workers of Dask.

    python -m benchmarks.dask.bench_workers [--objects N]

The endpoint answers from memory and keeps nothing, in a process of its own. On two cores, it and
two workers share them: what two workers gain there is less than what they gain on machines of their
own. CPU is that of all processes but the endpoint.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from datetime import UTC, datetime
from typing import Any

from distributed import Client, LocalCluster

from aiohaul import Destination, S3Object, Session, Settings
from aiohaul.dask.cluster import ClusterTransfer
from aiohaul.dask.shards import ShardResults, pack_objects
from aiohaul.progress import ignore
from benchmarks.harness import servers
from benchmarks.harness.listings import ETAG

NOW = datetime(2026, 1, 31, 10, 20, 30, tzinfo=UTC)


def protocol(url: str) -> dict[str, str]:
    """Who and where, as a definition says it."""
    return {
        "name": "opentaskpy.addons.aws.remotehandlers.s3.S3Transfer",
        "access_key_id": "k",
        "secret_access_key": "s",
        "region_name": "eu-west-1",
        "endpoint_url": url,
    }


async def one_process(url: str, found: list[S3Object]) -> tuple[float, float]:
    """Wall and CPU seconds of one Session."""
    who = Settings.from_protocol(protocol(url))
    async with Session() as session:
        begun, cpu = time.perf_counter(), time.process_time()
        report = await session.s3(who).copy(found, [Destination(bucket="out", settings=who)])
        assert report.destinations[0].objects == len(found)
        return time.perf_counter() - begun, time.process_time() - cpu


async def with_workers(url: str, found: list[S3Object], workers: int) -> tuple[float, float]:
    """Wall and CPU seconds of so many workers, and of their coordinator."""
    definition = {
        "type": "transfer",
        "source": {"bucket": "inbox", "fileRegex": ".*", "protocol": protocol(url)},
        "destination": [{"bucket": "out", "protocol": protocol(url)}],
    }
    async with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # None is port 8787, which may be in use
            asynchronous=True,
            silence_logs=50,
        ) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        before = await used(client)
        begun, cpu = time.perf_counter(), time.process_time()
        ledger = ShardResults([Destination(bucket="out")], ["out"], ignore)
        await ClusterTransfer(client, definition, None).copy(
            found, None, ledger, report_progress=False
        )
        seconds = time.perf_counter() - begun
        assert ledger.reports(0)[0].objects == len(found)
        here = time.process_time() - cpu
        return seconds, here + await used(client) - before


async def used(client: Any) -> float:
    """CPU seconds of all workers so far."""
    return float(sum((await client.run(time.process_time)).values()))


async def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--objects", type=int, default=20_000)
    count = parser.parse_args().objects
    found = [S3Object("inbox", f"src/{n:09}.csv", 1024, ETAG, NOW) for n in range(count)]
    print(f"{count} objects; a shard takes {len(pack_objects(found)) / count:.1f} bytes an object")
    print(f"load of this machine before: {os.getloadavg()[0]:.1f}")
    print(f"{'':24}{'wall s':>8}{'CPU s':>8}{'copies/s':>10}")
    with servers.module("benchmarks.harness.endpoint") as server:
        url = server.url
        for name, made in (
            ("one process, no Dask", one_process(url, found)),
            ("one worker", with_workers(url, found, 1)),
            ("two workers", with_workers(url, found, 2)),
        ):
            wall, cpu = await made
            print(f"{name:24}{wall:8.1f}{cpu:8.1f}{count / wall:10.0f}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
