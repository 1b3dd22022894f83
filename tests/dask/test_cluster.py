"""Transfers on a cluster of processes, one of which is killed."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

import aiohaul
import aiohaul.dask
from aiohaul.dask.shards import ShardResults, pack_objects, unpack_objects
from aiohaul.progress import Copied, Event, Failed, FlagWritten, Found
from aiohaul.report import DestinationReport, Failure
from tests.support.asyncio_contract import WAYS
from tests.support.demanding_s3 import DemandingS3
from tests.support.front import Front
from tests.support.gateway import Gateway
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import PROTOCOL, Store
from tests.support.strict_s3 import Call, Reply

pytestmark = pytest.mark.timeout(300)

NOW = datetime(2026, 1, 31, 10, 20, 30, tzinfo=UTC)
MIB = 2**20


@asynccontextmanager
async def cluster(workers: int = 2) -> AsyncIterator[Any]:
    async with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # None is port 8787, which may be in use
            asynchronous=True,
            silence_logs=50,
        ) as made,
        Client(made, asynchronous=True) as client,
    ):
        yield client


async def filled(
    store: Store, objects: int, size: int = 1, **more: Any
) -> tuple[str, str, dict[str, Any]]:
    """Two buckets, and a transfer from one to the other."""
    source, target = await store.bucket(), await store.bucket()
    await store.fill(source, {f"src/{n:03}.txt": bytes([n]) * size for n in range(objects)})
    definition = {
        "type": "transfer",
        "source": {
            "bucket": source,
            "directory": "src",
            "fileRegex": r".*\.txt",
            "protocol": store.protocol(),
            **more,
        },
        "destination": [
            {
                "bucket": target,
                "directory": "in",
                "flags": {"fullPath": "in/done.flg"},
                "protocol": store.protocol(),
            }
        ],
    }
    return source, target, definition


def reached(way: Gateway, match: str, count: int) -> asyncio.Event:
    """Set once so many requests of a kind have come."""
    event = asyncio.Event()

    def note(_: Any) -> None:
        if way.count(match) >= count:
            event.set()

    way.noting = note
    return event


async def kill_one(client: Any) -> None:
    """Kill a worker that has a shard, without a warning."""
    busy = {address for address, keys in (await client.processing()).items() if keys}
    pids = await client.run(os.getpid, workers=sorted(busy))
    os.kill(next(iter(pids.values())), signal.SIGKILL)


async def test_everything_arrives_once_though_a_worker_is_killed(
    proxied: tuple[Gateway, Store],
) -> None:
    way, store = proxied
    source, target, definition = await filled(store, 40, postCopyAction={"action": "delete"})
    held = way.rule("COPY", hold=True)
    under_way = reached(way, "COPY", 20)
    events: list[Event] = []
    async with cluster() as client:
        running = asyncio.create_task(
            aiohaul.dask.run(definition, client=client, shards=4, on_progress=events.append)
        )
        await under_way.wait()  # both workers have a shard of ten
        await kill_one(client)
        held.go.set()
        report = await running
    assert await store.keys(target) == ["in/" + f"{n:03}.txt" for n in range(40)] + ["in/done.flg"]
    assert await store.keys(source) == []
    assert way.count("COPY") == 50  # those of the killed worker were sent again
    assert report.found == report.destinations[0].objects == 40
    assert report.size == report.destinations[0].size == 40
    assert report.destinations[0].flag == f"s3://{target}/in/done.flg"
    copied = [each.source for each in events if isinstance(each, Copied)]
    assert sorted(copied) == [f"s3://{source}/src/{n:03}.txt" for n in range(40)]
    assert isinstance(events[0], Found)
    assert sum(isinstance(each, FlagWritten) for each in events) == 1


async def test_it_ends_as_a_sleep_does(proxied: tuple[Gateway, Store]) -> None:
    gateway, store = proxied
    _, _, definition = await filled(store, 4)
    held = gateway.rule("COPY", hold=True)
    async with cluster(workers=1) as client:

        async def call() -> None:
            await aiohaul.dask.run(definition, client=client)

        for way, at in itertools.product(WAYS, (3, 1000)):
            cancelling = await way(call, at, 1)
            assert cancelling == await way(_sleep, 1, 1), (way.__name__, at)
        held.go.set()
        await call()


async def _sleep() -> None:
    await asyncio.sleep(3600)


async def test_cancel_reaches_every_worker(proxied: tuple[Gateway, Store]) -> None:
    way, store = proxied
    _, target, definition = await filled(store, 4, size=20 * MIB)
    definition["destination"][0]["transferType"] = "proxy"
    held = way.rule("PUT .*partNumber=2", hold=True)
    async with cluster() as client:
        running = asyncio.create_task(aiohaul.dask.run(definition, client=client, shards=4))
        await held.reached.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert running.cancelling() == 1
        await way.idle()
        assert await store.uploads(target) == []
        assert not any("done.flg" in key for key in await store.keys(target))
        held.go.set()
        report = await aiohaul.dask.run(definition, client=client)
    assert report.destinations[0].objects == 4


@pytest.mark.smoke
async def test_destination_that_fails_is_in_the_merged_report(moto_s3: Store) -> None:
    source, target, definition = await filled(moto_s3, 10, postCopyAction={"action": "delete"})
    missing = {"bucket": "no-such-bucket-anywhere", "protocol": moto_s3.protocol()}
    definition["destination"].append(missing)
    events: list[Event] = []
    async with cluster() as client:
        with pytest.raises(aiohaul.TransferError) as raised:
            await aiohaul.dask.run(definition, client=client, shards=3, on_progress=events.append)
        good, bad = raised.value.report.destinations
        assert (good.objects, good.failures) == (10, ())
        assert bad.objects == 0
        assert {each.source for each in bad.failures} == {
            f"s3://{source}/src/{n:03}.txt" for n in range(10)
        }
        assert {each.kind for each in bad.failures} == {"BucketNotFoundError"}
        errors = [each.exception for each in bad.failures]
        assert all(isinstance(each, aiohaul.BucketNotFoundError) for each in errors)
        assert {each.code for each in errors if isinstance(each, aiohaul.ServiceError)} == {
            "NoSuchBucket"
        }
        assert len(await moto_s3.keys(source)) == 10
        assert len(await moto_s3.keys(target)) == 11
        assert sum(isinstance(each, Failed) for each in events) == 10
        assert sum(isinstance(each, Copied) for each in events) == 10

        definition["destination"] = definition["destination"][:1] * 2
        definition["destination"][1] = {**definition["destination"][0], "directory": "in"}
        definition["destination"][1]["rename"] = {"pattern": r"\d+", "sub": "x"}
        with pytest.raises(aiohaul.CollisionError, match="nothing was copied"):
            await aiohaul.dask.run(definition, client=client)


async def test_shard_that_was_taken_over_leaves_no_upload_open_with_journals(
    proxied: tuple[Gateway, Store], tmp_path: Path
) -> None:
    way, store = proxied
    _, target, definition = await filled(store, 2, size=20 * MIB)
    definition["destination"][0]["transferType"] = "proxy"
    held = way.rule("PUT .*partNumber=2", hold=True)
    under_way = reached(way, "PUT .*partNumber=2", 2)
    async with cluster() as client:
        running = asyncio.create_task(
            aiohaul.dask.run(definition, client=client, shards=2, journals=tmp_path)
        )
        await under_way.wait()
        await kill_one(client)
        held.go.set()
        report = await running
    assert report.destinations[0].objects == 2
    assert way.count("POST .*uploads") == 2  # the one that was open went on
    assert await store.uploads(target) == []


async def test_what_a_cluster_cannot_do_is_refused() -> None:
    nobody: Any = None
    protocol = {"name": "opentaskpy.addons.aws.remotehandlers.s3.S3Transfer"}
    source = {"bucket": "in", "fileRegex": ".*", "protocol": protocol}
    here = {"directory": "/tmp/x", "protocol": {"name": "local"}}  # noqa: S108
    definition = {"type": "transfer", "source": source, "destination": [here]}
    with pytest.raises(aiohaul.UnsupportedError, match=r"aiohaul\.run"):
        await aiohaul.dask.run(definition, client=nobody)
    touch = {"type": "execution", "bucket": "b", "key": "k", "protocol": protocol}
    with pytest.raises(aiohaul.UnsupportedError, match="only a transfer"):
        await aiohaul.dask.run(touch, client=nobody)


async def test_cluster_without_workers_is_refused(moto_s3: Store) -> None:
    _, _, definition = await filled(moto_s3, 1)
    async with cluster(workers=0) as client:
        with pytest.raises(aiohaul.SettingsError, match="0 workers"):
            await aiohaul.dask.run(definition, client=client)


@pytest.mark.parametrize("failures", [(), (Failure("s3://in/k", "no", "AccessDeniedError"),)])
async def test_flag_of_two_destinations_waits_for_both(
    moto_s3: Store, failures: tuple[Failure, ...]
) -> None:
    bucket = await moto_s3.bucket()
    settings = aiohaul.Settings.from_protocol(moto_s3.protocol())
    places = [
        aiohaul.Destination(bucket=bucket, directory=name, flag="done.flg", settings=settings)
        for name in ("a", "b")
    ]
    whole = DestinationReport("s3://x/a/", 1, 1, (), None, 1.0)
    part = DestinationReport("s3://x/b/", 1, 1, failures, None, 1.0)
    report = aiohaul.TransferReport(1, 1, (whole, part))
    async with aiohaul.Session() as session:
        made = await aiohaul.dask._write_flags(report, places, session, lambda _: None)
    assert await moto_s3.keys(bucket) == ([] if failures else ["done.flg"])
    assert [bool(each.flag) for each in made] == [not failures] * 2


# Pure


def objects(count: int) -> list[aiohaul.S3Object]:
    return [
        aiohaul.S3Object("in", f"src/{n}é", n, f"e{n}", NOW, "GLACIER_IR") for n in range(count)
    ]


def test_what_is_packed_is_unpacked() -> None:
    made = objects(1000)
    assert unpack_objects("in", pack_objects(made)) == made
    assert len(pack_objects(made)) < 20 * len(made)


def test_copy_is_told_of_once_though_its_shard_is_run_twice() -> None:
    told: list[Event] = []
    places = [aiohaul.Destination(bucket="a"), aiohaul.Destination(bucket="b")]
    ledger = ShardResults(places, ["s3://a/", "s3://b/"], told.append)
    ledger.record_start(0, objects(3))
    ledger.on_worker_event((0.0, (0, [(0, 0), (1, 0)])))
    ledger.on_worker_event((0.0, (0, [(0, 0), (0, 1)])))
    failure = Failure("s3://in/src/2é", "no", "AccessDeniedError")
    ledger.record_end(
        0,
        [
            DestinationReport("s3://a/", 3, 3, (), None, 1.0),
            DestinationReport("s3://b/", 2, 1, (failure,), None, 1.0),
        ],
    )
    ledger.on_worker_event((0.0, (0, [(2, 1)])))  # too late
    ledger.record_start(1, objects(2))
    ledger.record_lost(1, RuntimeError("gone"))
    copied = [(each.source, each.destination) for each in told if isinstance(each, Copied)]
    assert len(copied) == len(set(copied)) == 5
    first, second = ledger.reports(2.0)
    assert (first.objects, len(first.failures), first.seconds) == (3, 2, 2.0)
    assert (second.objects, len(second.failures)) == (2, 3)
    assert sum(isinstance(each, Failed) for each in told) == 5


async def test_workers_and_coordinator_name_payer_and_owner() -> None:
    owners = {"in": "111111111111", "out": "222222222222"}
    s3 = DemandingS3(buckets={*owners}, payers={*owners}, owners=owners)
    for number in range(4):
        s3.put("in", f"src/{number}", b"1")

    async def answer(call: Call) -> Reply:
        return s3.answer(call)

    async with Front("s3", answer).serving() as front, cluster() as client:
        protocol = {
            "name": PROTOCOL,
            "endpoint_url": front.url,
            "access_key_id": KEY,
            "secret_access_key": SECRET,
            "region_name": REGION,
        }
        sides = [
            {
                "bucket": bucket,
                "requestPayer": "requester",
                "expectedBucketOwner": owner,
                "protocol": protocol,
            }
            for bucket, owner in owners.items()
        ]
        action = {"postCopyAction": {"action": "delete"}}
        definition = {
            "type": "transfer",
            "source": {**sides[0], "directory": "src", "fileRegex": ".*", **action},
            "destination": [{**sides[1], "flags": {"fullPath": "f"}, "kmsKeyId": "k"}],
        }
        report = await aiohaul.dask.run(definition, client=client, shards=2)
    assert report.ok
    assert s3.refused == []
    assert set(s3.contents("out")) == {"0", "1", "2", "3", "f"}
    assert s3.contents("in") == {}
    key = "x-amz-server-side-encryption-aws-kms-key-id"
    assert {each.kept[key] for place, each in s3.objects.items()} == {"k"}
