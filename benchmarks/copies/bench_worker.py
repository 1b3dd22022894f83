"""One large object through this machine to three destinations: CPU for each GiB, and memory.

    pip install -e . --group benchmarks
    python -m benchmarks.copies.bench_worker [--size GIB] [--rounds N]

The object comes from, and goes to, a server in another process, which makes it up by sendfile(2)
and keeps nothing of what it gets. Whole processes are measured, from start to end. All send parts
of 8 MiB by plain HTTP, where each of them signs the bytes that it sends, unless it is told not to
(so is one row of obstore's, which then holds nothing against anything). Beyond that aiohaul and
aiobotocore send a checksum with each part, and aiohaul one of the whole; rclone sends MD5s.

obstore and aiobotocore have no copy to many: each row is the loop that one would write to read the
source once. rclone reads it once for each destination: only its ``union`` remote writes to many,
and that is not measured.
"""

# a module, whose output is its purpose

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks.harness import servers, surroundings
from benchmarks.harness.drawing import bars
from benchmarks.harness.processes import (
    CPU,
    PEAK,
    SECONDS,
    Commands,
    Figures,
    cost,
    python,
)
from benchmarks.harness.profiled import profile
from benchmarks.harness.results import Result, Table, number, parser, show
from benchmarks.harness.rounds import in_turns, medians
from benchmarks.harness.surroundings import KEYS, REGION

MIB, GIB = 2**20, 2**30
PART = 8 * MIB
BUCKETS = ("first", "second", "third")
EACH, READ = "CPU s/GiB delivered", "times read"
KEY = "large"
#: Milliseconds for which a request is kept where less memory is compared.
FAR = 30
MODULE = "benchmarks.copies.bench_worker"

Copies = Callable[..., Coroutine[Any, Any, None]]


async def aiohaul(url: str, buckets: Sequence[str] = BUCKETS, memory: int = 64 * MIB) -> None:
    """This library: one read, three writes, each part and the whole with a checksum."""
    from aiohaul import Destination, Session  # noqa: PLC0415  # each way imports only its own

    async with Session(region=REGION, endpoint_url=url, **KEYS) as session:
        s3 = session.s3()
        to = [Destination(bucket=bucket, transfer_type="proxy") for bucket in buckets]
        await s3.copy([await s3.head("source", KEY)], to, memory=memory)


async def aiohaul_in_less(url: str) -> None:
    """The same, with half of the memory for what is between source and destinations."""
    await aiohaul(url, memory=32 * MIB)


async def aiobotocore(url: str) -> None:
    """One read, each part sent to all three at once, and the next one read meanwhile."""
    from aiobotocore.session import AioSession  # noqa: PLC0415  # as above

    async with AioSession().create_client("s3", region_name=REGION, endpoint_url=url) as client:
        uploads = {
            bucket: (await client.create_multipart_upload(Bucket=bucket, Key=KEY))["UploadId"]
            for bucket in BUCKETS
        }
        parts: dict[str, list[dict[str, Any]]] = {bucket: [] for bucket in BUCKETS}

        async def send(bucket: str, number: int, data: bytes) -> None:
            done = await client.upload_part(
                Bucket=bucket,
                Key=KEY,
                UploadId=uploads[bucket],
                PartNumber=number,
                Body=data,
            )
            parts[bucket].append({"ETag": done["ETag"], "PartNumber": number})

        size = (await client.head_object(Bucket="source", Key=KEY))["ContentLength"]
        sending: asyncio.Future[Any] | None = None
        for number, start in enumerate(range(0, size, PART), 1):
            wanted = f"bytes={start}-{min(start + PART, size) - 1}"
            found = await client.get_object(Bucket="source", Key=KEY, Range=wanted)
            async with found["Body"] as body:
                data = await body.read()
            if sending is not None:
                await sending
            sending = asyncio.gather(*(send(bucket, number, data) for bucket in BUCKETS))
        if sending is not None:
            await sending
        for bucket in BUCKETS:
            await client.complete_multipart_upload(
                Bucket=bucket,
                Key=KEY,
                UploadId=uploads[bucket],
                MultipartUpload={"Parts": parts[bucket]},
            )


def _store(url: str, bucket: str, *, unsigned: bool) -> Any:
    from obstore.store import S3Store  # noqa: PLC0415  # as above

    return S3Store(
        bucket,
        region=REGION,
        endpoint=url,
        client_options={"allow_http": True},
        virtual_hosted_style_request=False,
        unsigned_payload=unsigned,
        **KEYS,
    )


async def _obstore_once(url: str, *, unsigned: bool) -> None:
    import obstore  # noqa: PLC0415  # as above

    writers = [
        obstore.open_writer_async(
            _store(url, bucket, unsigned=unsigned), KEY, buffer_size=PART, max_concurrency=4
        )
        for bucket in BUCKETS
    ]
    found = await obstore.get_async(_store(url, "source", unsigned=unsigned), KEY)
    async for chunk in found.stream(min_chunk_size=PART):
        await asyncio.gather(*(writer.write(chunk) for writer in writers))
    await asyncio.gather(*(writer.close() for writer in writers))


async def obstore_once(url: str) -> None:
    """One read, and three writers that are open at once."""
    await _obstore_once(url, unsigned=False)


async def obstore_unsigned(url: str) -> None:
    """The same, and nothing is signed or checked of what is sent."""
    await _obstore_once(url, unsigned=True)


OURS, LESS = "aiohaul", "aiohaul, memory=32 MiB"
LOOPS: dict[str, tuple[Copies, int]] = {
    OURS: (aiohaul, 1),
    LESS: (aiohaul_in_less, 1),
    "aiobotocore, read once": (aiobotocore, 1),
    "obstore, read once": (obstore_once, 1),
    "obstore, read once, unsigned": (obstore_unsigned, 1),
}


def rclone(url: str, buckets: tuple[str, ...]) -> Commands:
    """A process for each bucket, side by side; S3's own copies are forbidden."""
    remote = f":s3,provider=Other,env_auth=true,region={REGION},endpoint='{url}'"
    options = ["--disable", "copy", "--s3-no-check-bucket", "--ignore-times", "--no-check-dest"]
    options += ["--s3-chunk-size", "8Mi", "--s3-upload-cutoff", "8Mi", "--config", "/nowhere"]
    return [
        [
            *(surroundings.rclone(), "copyto", "--quiet", *options),
            *(f"{remote}:source/{KEY}", f"{remote}:{bucket}/{KEY}"),
        ]
        for bucket in buckets
    ]


def looped(name: str, url: str) -> Commands:
    """One of the loops of this module, as a process."""
    return [python(MODULE, "--way", name, url)]


class Measurement:
    """An object, and a server for each run.

    Args:
        size: bytes of the object.
        buckets: where it is copied to.
        delay: milliseconds for which each request is kept.
        tls: the server encrypts.
    """

    def __init__(
        self, size: int, buckets: Sequence[str] = BUCKETS, *, delay: int = 0, tls: bool = False
    ) -> None:
        self.size = size
        self._buckets = buckets
        self._delay = delay
        self._tls = tls

    def run(self, commands: Callable[[str], Commands], reads: int) -> Figures:
        """Copy the object: what that cost, and that all of it arrived."""
        with ExitStack() as stack:
            server = stack.enter_context(
                servers.module("benchmarks.copies.server", str(self.size), "{}")
            )
            place = server
            if self._delay or self._tls:
                near = servers.behind(server.url, delay=self._delay, tls=self._tls)
                place = stack.enter_context(near)
            spent = cost(commands(place.url), place.variables)
            had = json.loads(server.finish().splitlines()[-1])[-1][1]
        least = min(had.get(bucket, 0) for bucket in self._buckets)
        if least < self.size:
            raise SystemExit(f"only {least} bytes arrived")
        delivered = self.size * len(self._buckets) / GIB
        return {
            EACH: spent[CPU] / delivered,
            PEAK: spent[PEAK],
            SECONDS: spent[SECONDS],
            CPU: spent[CPU],
            READ: reads,
        }

    def ways(self) -> dict[str, Callable[[], Figures]]:
        """All of them."""
        found: dict[str, Callable[[], Figures]] = {
            name: partial(self.run, partial(looped, name), reads)
            for name, (_, reads) in LOOPS.items()
        }
        found["rclone, three side by side"] = lambda: self.run(
            lambda url: rclone(url, BUCKETS), len(BUCKETS)
        )
        return found


def measure(chosen: argparse.Namespace) -> Result:
    """Every way, in turns, by plain HTTP and by TLS."""
    size = int(chosen.size * GIB)
    title = f"{chosen.size:g} GiB to {len(BUCKETS)}"
    proxies = servers.haproxy() is not None
    tables, sentences = [], []
    for tls in (False, True) if proxies else (False,):
        case = Measurement(size, tls=tls)
        ways = case.ways()
        taken = in_turns(ways, chosen.rounds, warm_up=False)
        table = Table(
            f"{title}, TLS" if tls else title,
            medians(taken),
            (READ,),
            (EACH, PEAK, SECONDS),
            (LESS,),
        )
        tables.append(table)
        fell = [name for name in ways if len(taken[name]) < chosen.rounds]
        sentences += [f"{name} ended with an error in one of the rounds." for name in fell]
        sentences += table.losses() or [f"Reached: {table.title}: below all of them."]
    sentences += [alone(size, tables[0].rows[OURS])]
    if proxies:
        sentences += [far(size)]
    else:
        sentences += [f"Left out, for HAProxy is not installed: TLS, and {FAR} ms."]
    profiles = {}
    if chosen.profile:
        with servers.module("benchmarks.copies.server", str(size), "{}") as server:
            profiles[f"aiohaul's CPU, {title}"] = profile(MODULE, "--way", OURS, server.url)
    how = (
        f"An object of {chosen.size:g} GiB, {chosen.rounds} rounds, medians, ratios to aiohaul;"
        " whole processes; the peak is that of the largest process. CPU is told for each GiB that"
        " arrived, three for each GiB of the object. TLS is ended by HAProxy, on the same cores;"
        " over it aiohaul and aiobotocore send checksums and sign no bytes, as AWS's SDKs do."
    )
    return Result(
        "A large object to three destinations", how, tables, sentences, profiles, "worker.svg"
    )


def alone(size: int, ours: Figures) -> str:
    """What of aiohaul's CPU is its start."""
    small = Measurement(2 * PART)
    start = small.ways()[OURS]()
    left = (ours[CPU] - start[CPU]) / ((size - small.size) / GIB * len(BUCKETS))
    return (
        f"Of aiohaul's {number(ours[CPU])} s of CPU {number(start[CPU])} s are its start and two"
        f" parts; {number(left)} s/GiB are left without that."
    )


def far(size: int) -> str:
    """What less memory costs where each request waits."""
    case = Measurement(size, delay=FAR)
    more, less = (case.run(partial(looped, name), 1)[SECONDS] for name in (OURS, LESS))
    took = f"{OURS} takes {number(more)} s, and {LESS}, {number(less)} s"
    return f"Where each request is kept for {FAR} ms, {took} (once each)."


def main() -> None:
    """Measure, print and draw."""
    if sys.argv[1:2] == ["--way"]:
        copies, _ = LOOPS[sys.argv[2]]
        asyncio.run(copies(sys.argv[3], *filter(None, [sys.argv[4:]])))
        if "obstore" in sys.argv[2]:
            # All is delivered, and counted elsewhere: its threads at times abort Python's end.
            os._exit(0)
        return
    arguments = parser(__doc__, rounds=3)
    arguments.add_argument("--size", type=float, default=1.0, help="GiB of the object")
    chosen = arguments.parse_args()
    if chosen.quick:
        chosen.size, chosen.rounds = 0.125, 1
    show(measure(chosen), chosen, bars((EACH, PEAK, SECONDS)))


if __name__ == "__main__":
    main()
