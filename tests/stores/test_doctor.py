"""The doctor on stores as users have them."""

from __future__ import annotations

import pytest

import aiohaul
from aiohaul.doctor.examine import examine
from tests.stores import doctor_table
from tests.support.store import Store
from tests.support.stores import StoreServer


@pytest.mark.feature("aiohaul doctor: finds out, and leaves nothing")
async def test_doctor(store_s3: Store, store_server: StoreServer, session: aiohaul.Session) -> None:
    bucket = await store_s3.bucket()
    await store_s3.put(bucket, "in/there", b"x")
    found = await examine(session, bucket, "in")
    doctor_table.note(store_server, found)
    assert found.ok, [each for each in found.findings if each.status == "failed"]
    assert await store_s3.contents(bucket) == {"in/there": b"x"}
    assert await store_s3.uploads(bucket) == []


@pytest.mark.feature("aiohaul doctor: leaves no version, no delete marker")
async def test_doctor_in_a_bucket_with_versions(
    store_s3: Store, store_server: StoreServer, session: aiohaul.Session
) -> None:
    bucket = await store_s3.bucket()
    if store_server.has_versions:
        on = {"Status": "Enabled"}
        await store_s3.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=on)
    found = await examine(session, bucket)
    assert found.remnants == ()
    assert await store_s3.keys(bucket) == []
    assert await store_s3.uploads(bucket) == []
    if store_server.has_versions:
        page = await store_s3.client.list_object_versions(Bucket=bucket)
        assert page.get("Versions", []) == page.get("DeleteMarkers", []) == []
