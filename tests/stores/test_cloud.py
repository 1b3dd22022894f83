"""What needs more than S3: events of buckets, parameters, secrets, roles."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest
from aiobotocore.session import AioSession

import aiohaul
from aiohaul import Destination, S3Handler, Settings
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store, store
from tests.support.stores import STORES, StoreServer, asked_for
from tests.support.stores_fixtures import Started

KEYS = ("src/a.csv", "src/größe + 100%25.csv")


@pytest.fixture(params=[name for name in asked_for() if STORES[name].is_cloud])
def cloud(request: pytest.FixtureRequest, started_store: Started) -> StoreServer:
    """Each of the stores that have other services, too."""
    return started_store(request.param)


@pytest.fixture
async def cloud_s3(cloud: StoreServer) -> AsyncIterator[Store]:
    async with store(cloud.url, cloud.name) as made:
        yield made


@pytest.fixture
async def session(cloud: StoreServer) -> AsyncIterator[aiohaul.Session]:
    async with aiohaul.Session(
        region=REGION, endpoint_url=cloud.url, access_key_id=KEY, secret_access_key=SECRET
    ) as made:
        yield made


@pytest.fixture
async def clients(cloud: StoreServer) -> AsyncIterator[Any]:
    """Makes clients of services that share nothing with the code under test."""
    session = AioSession()
    async with AsyncExitStack() as stack:

        async def client(service: str) -> Any:
            return await stack.enter_async_context(
                session.create_client(
                    service,
                    endpoint_url=cloud.url,
                    region_name=REGION,
                    aws_access_key_id=KEY,
                    aws_secret_access_key=SECRET,
                )
            )

        yield client


async def queue(clients: Any) -> tuple[str, str]:
    """The URL and the ARN of a new queue."""
    sqs = await clients("sqs")
    url: str = (await sqs.create_queue(QueueName=f"q-{uuid4().hex[:12]}"))["QueueUrl"]
    told = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return url, told["Attributes"]["QueueArn"]


async def watch_sees_what_is_put(s3: Store, handler: S3Handler, bucket: str, url: str) -> None:
    """By events: the listing after the first one is minutes away."""
    await s3.put(bucket, "src/listed", b"x")
    async with asyncio.timeout(60), handler.watch(bucket, "src", queue=url) as watch:
        assert (await anext(watch)).object.key == "src/listed"
        for key in KEYS:
            step = asyncio.ensure_future(anext(watch))
            await s3.put(bucket, key, b"x")
            assert (await step).object.key == key


@pytest.mark.feature("events of a bucket by SQS")
async def test_events_by_sqs(cloud_s3: Store, session: aiohaul.Session, clients: Any) -> None:
    bucket = await cloud_s3.bucket()
    url, arn = await queue(clients)
    await cloud_s3.client.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]
        },
    )
    await watch_sees_what_is_put(cloud_s3, session.s3(), bucket, url)


@pytest.mark.feature("events of a bucket by SNS and SQS")
async def test_events_by_sns(cloud_s3: Store, session: aiohaul.Session, clients: Any) -> None:
    bucket = await cloud_s3.bucket()
    url, arn = await queue(clients)
    sns = await clients("sns")
    topic = (await sns.create_topic(Name=f"t-{uuid4().hex[:12]}"))["TopicArn"]
    await sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    await cloud_s3.client.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}]
        },
    )
    await watch_sees_what_is_put(cloud_s3, session.s3(), bucket, url)


@pytest.mark.feature("events of a bucket by EventBridge and SQS")
async def test_events_by_eventbridge(
    cloud_s3: Store, session: aiohaul.Session, clients: Any
) -> None:
    bucket = await cloud_s3.bucket()
    url, arn = await queue(clients)
    events = await clients("events")
    rule = f"r-{uuid4().hex[:12]}"
    pattern = {"source": ["aws.s3"], "detail": {"bucket": {"name": [bucket]}}}
    await events.put_rule(Name=rule, EventPattern=json.dumps(pattern))
    await events.put_targets(Rule=rule, Targets=[{"Id": "queue", "Arn": arn}])
    await cloud_s3.client.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    await watch_sees_what_is_put(cloud_s3, session.s3(), bucket, url)


@pytest.mark.feature("parameters of SSM")
async def test_parameters(session: aiohaul.Session) -> None:
    ssm, root = session.ssm(), f"/{uuid4().hex[:12]}"
    assert await ssm.put(f"{root}/limit", "1") == 1
    assert await ssm.put(f"{root}/limit", "2") == 2
    assert (await ssm.get(f"{root}/limit")).value == "2"
    assert (await ssm.get(f"{root}/limit:1")).value == "1"
    await ssm.put(f"{root}/below/name", "x", type="String")
    found = await ssm.get_by_path(root, recursive=True)
    assert {name: each.value for name, each in found.items()} == {
        f"{root}/limit": "2",
        f"{root}/below/name": "x",
    }
    with pytest.raises(aiohaul.ParameterNotFoundError):
        await ssm.get(f"{root}/missing")


@pytest.mark.feature("secrets of Secrets Manager")
async def test_secrets(session: aiohaul.Session) -> None:
    secrets, name = session.secrets(), f"s-{uuid4().hex[:12]}"
    with pytest.raises(aiohaul.SecretNotFoundError):
        await secrets.get(name)
    await secrets.create(name, json.dumps({"user": "night"}))
    assert (await secrets.get(name)).select("$.user") == ["night"]
    await secrets.put(name, "plain")
    assert (await secrets.get(name)).value == "plain"


@pytest.mark.feature("roles: STS AssumeRole")
async def test_roles(cloud_s3: Store, session: aiohaul.Session) -> None:
    inbox, out = await cloud_s3.bucket(), await cloud_s3.bucket()
    await cloud_s3.put(inbox, "src/a", b"x")
    role = Settings(role_arn="arn:aws:iam::000000000000:role/night", role_external_id="night")
    handler = session.s3()
    to = Destination(bucket=out, settings=role)
    await handler.copy(await handler.find(inbox, "src"), [to])
    assert await cloud_s3.contents(out) == {"a": b"x"}
