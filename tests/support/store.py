"""What is really in the buckets: a plain client that shares nothing with the code under test."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any
from uuid import uuid4

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from tests.support.moto_server import BUCKET_OWNER
from tests.support.servers import KEY, REGION, SECRET
from tests.support.stores import STORES

PROTOCOL = "opentaskpy.addons.aws.remotehandlers.s3.S3Transfer"
_WIDTH = 8


class Store:
    def __init__(self, client: Any, url: str, kind: str) -> None:
        self.client = client
        self.url = url
        self.kind = kind

    def protocol(self, **more: Any) -> dict[str, Any]:
        return {
            "name": PROTOCOL,
            "access_key_id": KEY,
            "secret_access_key": SECRET,
            "region_name": REGION,
            "endpoint_url": self.url,
            **more,
        }

    async def bucket(self, name: str | None = None) -> str:
        name = name or f"b-{uuid4().hex[:12]}"
        where = {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
        has_regions = self.kind not in STORES or STORES[self.kind].has_regions
        await self.client.create_bucket(Bucket=name, **(where if has_regions else {}))
        return name

    async def put(self, bucket: str, key: str, data: bytes = b"", **more: Any) -> str:
        answer = await self.client.put_object(Bucket=bucket, Key=key, Body=data, **more)
        etag: str = answer["ETag"]
        return etag.strip('"')

    async def fill(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        slots = asyncio.Semaphore(_WIDTH)

        async def put(key: str, data: bytes) -> None:
            async with slots:
                await self.put(bucket, key, data)

        async with asyncio.TaskGroup() as tasks:
            for key, data in objects.items():
                tasks.create_task(put(key, data))

    async def listing(self, bucket: str) -> dict[str, str]:
        """Key -> ETag, which is the MD5 of what was written in one piece."""
        found: dict[str, str] = {}
        async for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            found |= {each["Key"]: each["ETag"].strip('"') for each in page.get("Contents", ())}
        if self.kind in STORES and STORES[self.kind].shows_folders:
            return {key: etag for key, etag in found.items() if not key.endswith("/")}
        return found

    async def keys(self, bucket: str) -> list[str]:
        return sorted(await self.listing(bucket))

    async def get(self, bucket: str, key: str) -> bytes:
        answer = await self.client.get_object(Bucket=bucket, Key=key)
        async with answer["Body"] as body:
            data: bytes = await body.read()
        return data

    async def contents(self, bucket: str) -> dict[str, bytes]:
        slots = asyncio.Semaphore(_WIDTH)

        async def get(key: str) -> bytes:
            async with slots:
                return await self.get(bucket, key)

        keys = await self.keys(bucket)
        return dict(zip(keys, await asyncio.gather(*map(get, keys)), strict=True))

    async def head(self, bucket: str, key: str) -> dict[str, Any]:
        answer: dict[str, Any] = await self.client.head_object(Bucket=bucket, Key=key)
        return answer

    async def uploads(self, bucket: str) -> list[Any]:
        try:
            answer = await self.client.list_multipart_uploads(Bucket=bucket)
        except self.client.exceptions.NoSuchUpload:  # rclone's way to say that there are none
            return []
        return list(answer.get("Uploads", ()))

    async def has_owner_acl(self, bucket: str, key: str) -> bool:
        """True if it was written with bucket-owner-full-control."""
        answer = await self.client.get_object_acl(Bucket=bucket, Key=key)
        return any(grant["Grantee"].get("ID") == BUCKET_OWNER for grant in answer["Grants"])


@cache
def _models() -> Any:
    """Loading them takes longer than most tests."""
    return AioSession().get_component("data_loader")


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@asynccontextmanager
async def store(url: str, kind: str) -> AsyncIterator[Store]:
    session = AioSession()
    session.register_component("data_loader", _models())
    async with session.create_client(
        "s3",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=AioConfig(retries={"mode": "standard", "total_max_attempts": 5}),
    ) as client:
        yield Store(client, url, kind)
