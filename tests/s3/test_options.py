"""Requester Pays, the expected owner, storage classes and KMS keys, on every request they concern.

The servers refuse each request to a bucket that lacks the payer or the owner of that bucket, or
names the owner of another one.
"""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.session import Session as BotocoreSession

import aiohaul
from aiohaul import Action, Destination, SourceOptions, WriteOptions
from aiohaul.aws.service import Service
from aiohaul.s3 import bucket_service
from aiohaul.s3.bucket_service import bound
from aiohaul.s3.copying import plan
from aiohaul.s3.copying.actions import apply_to_objects
from aiohaul.s3.handler import transfers_of
from aiohaul.s3.streaming.parts import PART_SIZE, Limits
from aiohaul.s3.streaming.uploads import Upload
from aiohaul.tasks.resume import definition_identity
from tests.support.definitions import run, transfer
from tests.support.demanding_s3 import DemandingS3
from tests.support.front import Front
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import PROTOCOL, Store
from tests.support.strict_s3 import Call, Reply

LARGE = b"01234567" * (PART_SIZE // 8 + 1)
INBOX = {"requestPayer": "requester", "expectedBucketOwner": "111111111111"}
DIRECT = {"requestPayer": "requester", "expectedBucketOwner": "222222222222"}
ARCHIVE = {"requestPayer": "requester", "expectedBucketOwner": "333333333333"}
PARTNER = {"requestPayer": "requester", "expectedBucketOwner": "444444444444"}
OPTIONS = SourceOptions(request_payer="requester", expected_bucket_owner="111111111111")
PARTS = Limits(copy=1, copy_step=PART_SIZE // 2)


class Two:
    """Two stores: the buckets of the first demand a payer and an owner, as does the partner's."""

    def __init__(self) -> None:
        self.home = DemandingS3(buckets={"inbox", "direct", "archive"})
        self.away = DemandingS3(buckets={"partner"})
        for s3 in (self.home, self.away):
            s3.payers |= s3.buckets
        for name, owner in {"inbox": INBOX, "direct": DIRECT, "archive": ARCHIVE}.items():
            self.home.owners[name] = owner["expectedBucketOwner"]
        self.away.owners["partner"] = PARTNER["expectedBucketOwner"]
        self.fronts = [_front(self.home), _front(self.away)]

    def settings(self, at: int = 0) -> aiohaul.Settings:
        return aiohaul.Settings(
            region=REGION,
            endpoint_url=self.fronts[at].url,
            access_key_id=KEY,
            secret_access_key=SECRET,
        )

    def protocol(self, at: int = 0) -> dict[str, Any]:
        return {
            "name": PROTOCOL,
            "access_key_id": KEY,
            "secret_access_key": SECRET,
            "region_name": REGION,
            "endpoint_url": self.fronts[at].url,
        }

    def source(self, **more: Any) -> dict[str, Any]:
        side = {"bucket": "inbox", "directory": "src", "fileRegex": ".*", **INBOX}
        return {**side, "protocol": self.protocol(), **more}

    def direct(self, **more: Any) -> dict[str, Any]:
        return {"bucket": "direct", **DIRECT, "protocol": self.protocol(), **more}

    def partner(self, **more: Any) -> dict[str, Any]:
        return {"bucket": "partner", **PARTNER, "protocol": self.protocol(1), **more}

    def refused(self) -> list[str]:
        return self.home.refused + self.away.refused

    def operations(self) -> set[str]:
        return {each.operation for s3 in (self.home, self.away) for each in s3.calls}


def _front(s3: DemandingS3) -> Front:
    async def answer(call: Call) -> Reply:
        return s3.answer(call)

    return Front("s3", answer)


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    made = Two()
    async with AsyncExitStack() as stack:
        for front in made.fronts:
            await stack.enter_async_context(front.serving())
        yield made


@pytest.fixture
async def session() -> AsyncIterator[aiohaul.Session]:
    async with aiohaul.Session() as opened:
        yield opened


# Payer and owner ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["small", "large"])
async def test_every_request_of_a_transfer_names_payer_and_owner(two: Two, size: str) -> None:
    data = LARGE if size == "large" else b"1"
    for key in ("src/a", "src/b"):
        two.home.put("inbox", key, data)
    move = {"action": "move", "destination": "s3://archive/done/", **ARCHIVE}
    report = await run(
        transfer(
            two.source(postCopyAction=move, fileWatch={"timeout": 5, "sleepTime": 1}),
            two.direct(flags={"fullPath": "ready.flg"}),
            two.partner(flags={"fullPath": "ready.flg"}),
        )
    )
    assert report.ok
    assert two.refused() == []
    assert set(two.home.contents("direct")) == {"a", "b", "ready.flg"}
    assert set(two.away.contents("partner")) == {"a", "b", "ready.flg"}
    assert set(two.home.contents("archive")) == {"done/a", "done/b"}
    assert two.home.contents("inbox") == {}
    used = {"ListObjectsV2", "GetObject", "GetObjectTagging", "CopyObject", "DeleteObjects"}
    parts = {"CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "HeadObject"}
    assert used | {"PutObject"} | (parts if size == "large" else set()) <= two.operations()


async def test_without_its_owner_or_payer_a_bucket_refuses(two: Two) -> None:
    """What the tests here rely on."""
    two.home.put("inbox", "src/a", b"1")
    for left_out in INBOX:
        source = two.source()
        del source[left_out]
        with pytest.raises(aiohaul.AccessDeniedError):
            await run(transfer(source))
    two.home.owners["inbox"] = "999999999999"  # somebody else took the name
    with pytest.raises(aiohaul.AccessDeniedError):
        await run(transfer(two.source()))


@pytest.mark.parametrize("by", ["copies", "moves", "missing operation"])
async def test_server_side_parts_name_both_buckets(
    two: Two, session: aiohaul.Session, by: str
) -> None:
    two.home.put("inbox", "src/a", LARGE)
    s3 = session.s3(two.settings(), OPTIONS)
    options = WriteOptions(request_payer="requester", expected_bucket_owner="222222222222")
    found = await s3.find("inbox", "src")
    if by == "missing operation":
        (await s3._s3()).support.missing.add("UploadPartCopy")
    to = Destination(bucket="direct", options=options, settings=two.settings())
    if by == "moves":
        service = await s3._s3()
        action = Action(kind="move", bucket="direct", prefix="", options=options)
        moved = await apply_to_objects(
            service, found, action, width=1, on_progress=lambda _: None, limits=PARTS
        )
        assert moved.failures == ()
    else:
        (report,) = await transfers_of(s3).copy_all(found, [to], limits=PARTS)
        assert report.ok, report.failures
    assert two.refused() == []
    assert two.home.contents("direct") == {"a": LARGE}
    copied = len(two.home.sent("UploadPartCopy"))
    assert copied == (0 if by == "missing operation" else 3)


async def test_upload_of_a_cancelled_copy_is_aborted(two: Two, session: aiohaul.Session) -> None:
    two.home.put("inbox", "src/a", LARGE)
    s3 = session.s3(two.settings(), OPTIONS)
    options = WriteOptions(request_payer="requester", expected_bucket_owner="444444444444")
    to = Destination(bucket="partner", options=options, settings=two.settings(1))
    answer = two.away.answer

    def failing(call: Call) -> Reply:
        return Reply(400) if call.query.get("partNumber") == "2" else answer(call)

    two.away.answer = failing  # type: ignore[method-assign]
    with pytest.raises(aiohaul.TransferError):
        await s3.copy(await s3.find("inbox", "src"), [to])
    assert two.away.begun
    assert two.away.uploads == {}
    assert two.refused() == []


@pytest.mark.parametrize("again", ["resumed", "cleaned"])
async def test_killed_run_is_resumed_or_cleaned_with_payer_and_owner(
    two: Two, session: aiohaul.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    two.home.put("inbox", "src/a", LARGE)
    two.home.put("inbox", "src/b", b"1")
    definition = transfer(two.source(), two.partner())
    held, answer = asyncio.Event(), two.fronts[1]._answer

    async def holding(call: Call) -> Reply:
        if call.operation == "CompleteMultipartUpload":
            held.set()
            await asyncio.Event().wait()
        return await answer(call)

    monkeypatch.setattr(two.fronts[1], "_answer", holding)
    with monkeypatch.context() as patch:
        patch.setattr(Upload, "abort", lambda _: asyncio.sleep(0))  # as if it had been killed
        task = asyncio.ensure_future(
            aiohaul.run(definition, session=session, journal=tmp_path / "j")
        )
        await held.wait()
        task.cancel()
        await asyncio.wait([task])
    monkeypatch.setattr(two.fronts[1], "_answer", answer)
    assert len(two.away.uploads) == 1
    if again == "cleaned":
        assert await aiohaul.clean(definition, session=session, journal=tmp_path / "j")
    else:
        report = await run(definition, session=session, journal=tmp_path / "j")
        assert report.destinations[0].already_there == 1
        assert two.away.begun == 1
        assert two.away.contents("partner") == {"a": LARGE, "b": b"1"}
        assert {"ListParts", "ListMultipartUploads"} <= two.operations()
    assert two.away.uploads == {}
    assert two.refused() == []


async def test_every_call_of_a_handler_names_payer_and_owner(
    two: Two, session: aiohaul.Session
) -> None:
    two.home.put("inbox", "src/a", b"line\n")
    two.home.put("inbox", "src/old/b", LARGE)
    s3 = session.s3(two.settings(), OPTIONS)
    assert [each.key async for each in s3.list("inbox")] == ["src/a", "src/old/b"]
    assert len(await s3.wait_for("inbox", "src", timeout=0)) == 1
    watch = s3.watch("inbox", "src")
    assert (await anext(watch)).object.key == "src/a"
    await watch.aclose()
    assert (await s3.head("inbox", "src/a")).size == 5
    assert await s3.exists("inbox", "src/a")
    assert (await s3.read("inbox", "src/old/b")).data == LARGE
    assert await s3.wait_for_line("inbox", "src/a", "line", timeout=0) == "line"
    assert await s3.get_tags("inbox", "src/a") == {}
    assert [len(each.objects) async for each in s3.walk("inbox", "src/")] == [1]
    await s3.touch("inbox", "flag")
    await s3.write("inbox", "c", LARGE)
    action = Action(kind="rename", prefix="src/", rename=aiohaul.Rename("a", "z"))
    assert (await s3.act(await s3.find("inbox", "src"), action)).failures == ()
    assert (await s3.delete(await s3.find("inbox", "src"))).objects == 1
    assert (await s3.delete_keys("inbox", ["c"])).failures == ()
    own = WriteOptions(request_payer="requester", expected_bucket_owner="222222222222")
    await s3.touch("direct", "flag", options=own)
    await s3.write("direct", "c", b"1", options=own)
    assert two.refused() == []
    assert set(two.home.contents("inbox")) == {"src/old/b", "flag"}
    assert set(two.home.contents("direct")) == {"flag", "c"}


async def test_execution_names_payer_and_owner(two: Two) -> None:
    execution = {"type": "execution", "bucket": "direct", "key": "flag", **DIRECT}
    await aiohaul.run({**execution, "storageClass": "ONEZONE_IA", "protocol": two.protocol()})
    assert two.home.objects["direct", "flag"].kept["x-amz-storage-class"] == "ONEZONE_IA"
    assert two.refused() == []


async def test_conditions_are_probed_with_payer_and_owner(
    two: Two, session: aiohaul.Session
) -> None:
    two.home.put("inbox", "src/a", b"1")
    s3 = session.s3(two.settings(), OPTIONS)
    found = await s3.find("inbox", "src")
    direct = WriteOptions(request_payer="requester", expected_bucket_owner="222222222222")
    partner = replace(direct, expected_bucket_owner="444444444444")
    to = [
        Destination(bucket="direct", overwrite=False, options=direct, settings=two.settings()),
        Destination(bucket="partner", overwrite=False, options=partner, settings=two.settings(1)),
    ]
    await s3.copy(found, to)
    assert len(two.home.sent("CopyObject")) == len(two.away.sent("PutObject")) == 2, "the probes"
    with pytest.raises(aiohaul.TransferError) as caught:
        await s3.copy(found, to)
    assert caught.value.report is not None
    for each in caught.value.report.destinations:
        assert isinstance(each.failures[0].exception, aiohaul.ObjectExistsError)
    assert two.refused() == []


async def test_watches_share_listings_only_with_the_same_options(
    two: Two, session: aiohaul.Session
) -> None:
    two.home.put("inbox", "src/a", b"1")
    await session.s3(two.settings(), OPTIONS).find("inbox", "none")
    before = len(two.home.sent("ListObjectsV2"))

    async def wait(options: SourceOptions | None) -> object:
        return await session.s3(two.settings(), options).wait_for("inbox", "src", timeout=0)

    ignoring = replace(OPTIONS, ignore_storage_classes={"GLACIER"})
    results = await asyncio.gather(
        *map(wait, (OPTIONS, OPTIONS, ignoring, None)), return_exceptions=True
    )
    assert [len(each) for each in results[:3]] == [1, 1, 1]  # type: ignore[arg-type]
    assert isinstance(results[3], aiohaul.AccessDeniedError)
    assert len(two.home.sent("ListObjectsV2")) == before + 2


async def test_a_service_with_options_takes_the_fast_path(
    two: Two, session: aiohaul.Session
) -> None:
    s3 = session.s3(two.settings(), OPTIONS)
    for _ in range(3):
        await s3.find("inbox", "src")
    assert (await s3._s3()).takes_fast_path("list_objects_v2", "inbox")


def test_operations_with_a_payer_are_those_of_botocore() -> None:
    model = BotocoreSession().get_service_model("s3")
    names = {xform_name(each): each for each in model.operation_names}
    texts = {
        node.value
        for file in Path(bucket_service.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    sent = {each: model.operation_model(names[each]) for each in texts & names.keys()}
    assert len(sent) > 15
    paid = {each for each, of in sent.items() if "RequestPayer" in of.input_shape.members}
    assert paid == bucket_service._WITH_PAYER
    owned = {each for each, of in sent.items() if "ExpectedBucketOwner" in of.input_shape.members}
    assert owned == sent.keys()


async def test_options_of_a_service_are_merged_and_compared(session: aiohaul.Session) -> None:
    plain: Service = await session.s3(aiohaul.Settings(region=REGION))._s3()
    assert bound(plain, None) is bound(plain, SourceOptions()) is plain
    once, twice = bound(plain, OPTIONS), bound(plain, OPTIONS)
    assert once == twice
    assert hash(once) == hash(twice)
    assert once != plain
    assert bound(once, WriteOptions(expected_bucket_owner="222222222222")) != once
    assert bound(once, WriteOptions()) is once


# Storage classes and encryption ------------------------------------------------------------


def kept(s3: DemandingS3, bucket: str, key: str) -> dict[str, str]:
    told = s3.objects[bucket, key].kept
    names = ("storage-class", "server-side-encryption", "server-side-encryption-aws-kms-key-id")
    return {name: told[f"x-amz-{name}"] for name in names if f"x-amz-{name}" in told}


@pytest.mark.parametrize("data", [b"1", LARGE], ids=["whole", "in parts"])
async def test_copies_have_class_and_key_of_their_destination(two: Two, data: bytes) -> None:
    two.home.put("inbox", "src/a", data, **{"x-amz-storage-class": "STANDARD_IA"})
    written = {"storageClass": "GLACIER_IR", "kmsKeyId": "alias/k"}
    flag = {"flags": {"fullPath": "ready.flg"}}
    await run(
        transfer(
            two.source(postCopyAction={"action": "move", "destination": "old/", **written}),
            two.direct(**written, **flag),
            two.partner(**written, **flag),
        )
    )
    encrypted = {
        "server-side-encryption": "aws:kms",
        "server-side-encryption-aws-kms-key-id": "alias/k",
    }
    for s3, bucket, key in (
        (two.home, "direct", "a"),
        (two.away, "partner", "a"),
        (two.home, "inbox", "old/a"),
    ):
        assert kept(s3, bucket, key) == {"storage-class": "GLACIER_IR", **encrypted}
    for s3, bucket in ((two.home, "direct"), (two.away, "partner")):
        assert kept(s3, bucket, "ready.flg") == encrypted, "a flag is read at once"
    assert two.refused() == []


async def test_server_side_parts_have_class_and_key(two: Two, session: aiohaul.Session) -> None:
    two.home.put("inbox", "src/a", LARGE)
    s3 = session.s3(two.settings(), OPTIONS)
    options = WriteOptions(
        request_payer="requester",
        expected_bucket_owner="222222222222",
        storage_class="GLACIER_IR",
        kms_key_id="k",
        bucket_owner_full_control=False,
    )
    to = Destination(bucket="direct", options=options, settings=two.settings())
    (report,) = await transfers_of(s3).copy_all(await s3.find("inbox", "src"), [to], limits=PARTS)
    assert report.ok, report.failures
    assert kept(two.home, "direct", "a")["storage-class"] == "GLACIER_IR"
    assert kept(two.home, "direct", "a")["server-side-encryption-aws-kms-key-id"] == "k"
    assert "x-amz-acl" not in two.home.objects["direct", "a"].kept


@pytest.mark.parametrize("archived", ["GLACIER", "DEEP_ARCHIVE"])
async def test_copy_of_a_restored_object_can_be_read(
    two: Two, session: aiohaul.Session, archived: str
) -> None:
    two.home.put("inbox", "src/a", LARGE, **{"x-amz-storage-class": archived})
    move = {"action": "move", "destination": "old/"}
    direct = two.direct(transferType="proxy", directory="proxy")
    assert (await run(transfer(two.source(), direct, two.direct()))).ok
    options = WriteOptions(request_payer="requester", expected_bucket_owner="222222222222")
    s3, to = session.s3(two.settings(), OPTIONS), Destination(bucket="direct", options=options)
    to = replace(to, directory="parts", settings=two.settings())
    await transfers_of(s3).copy_all(await s3.find("inbox", "src"), [to], limits=PARTS)
    for key in ("a", "proxy/a", "parts/a"):
        assert kept(two.home, "direct", key) == {}
    chosen = two.direct(storageClass=archived, directory="chosen")
    assert (await run(transfer(two.source(postCopyAction=move), chosen))).ok
    assert kept(two.home, "direct", "chosen/a") == {"storage-class": archived}
    assert kept(two.home, "inbox", "old/a") == {}


@pytest.mark.parametrize("told", [True, False], ids=["told by the write", "told by HeadObject"])
@pytest.mark.parametrize("data", [b"1", LARGE], ids=["whole", "in parts"])
async def test_encrypted_copies_whose_etags_are_no_md5_are_read_back_before_a_delete(
    two: Two, monkeypatch: pytest.MonkeyPatch, data: bytes, told: bool
) -> None:
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    two.home.put("inbox", "src/a", data)
    two.away.told = told
    report = await run(
        transfer(two.source(postCopyAction={"action": "delete"}), two.partner(kmsKeyId="alias/k"))
    )
    assert report.ok
    assert two.away.contents("partner") == {"a": data}
    assert two.away.sent("GetObject"), "neither ETag nor checksum proves the copy"
    assert two.home.contents("inbox") == {}


async def test_checksum_proves_an_encrypted_copy(two: Two) -> None:
    two.home.put("inbox", "src/a", LARGE)
    two.home.put("inbox", "src/b", b"1")
    definition = transfer(
        two.source(postCopyAction={"action": "delete"}), two.partner(kmsKeyId="alias/k")
    )
    assert (await run(definition)).ok
    assert two.away.sent("GetObject") == []


@pytest.mark.parametrize("to", ["direct", "partner"])
@pytest.mark.parametrize("data", [b"1", LARGE], ids=["whole", "in parts"])
async def test_store_that_ignores_the_key_fails_the_copy(two: Two, data: bytes, to: str) -> None:
    two.home.encrypts = two.away.encrypts = False
    two.home.put("inbox", "src/a", data)
    side = two.direct(kmsKeyId="alias/k") if to == "direct" else two.partner(kmsKeyId="alias/k")
    with pytest.raises(aiohaul.TransferError, match="does not say that it is encrypted") as caught:
        await run(transfer(two.source(postCopyAction={"action": "delete"}), side))
    assert caught.value.report is not None
    (failure,) = caught.value.report.destinations[0].failures
    assert isinstance(failure.exception, aiohaul.VerificationError)
    assert set(two.home.contents("inbox")) == {"src/a"}


async def test_write_of_a_handler_has_class_and_key(two: Two, session: aiohaul.Session) -> None:
    s3 = session.s3(two.settings(), OPTIONS)
    options = WriteOptions(storage_class="ONEZONE_IA", kms_key_id="k")
    await s3.write("inbox", "a", LARGE, options=options)
    await s3.touch("inbox", "b", options=options)
    for key in ("a", "b"):
        assert kept(two.home, "inbox", key)["storage-class"] == "ONEZONE_IA"
        assert kept(two.home, "inbox", key)["server-side-encryption-aws-kms-key-id"] == "k"


async def test_objects_of_ignored_classes_are_left_out(two: Two, session: aiohaul.Session) -> None:
    classes = {"a": None, "b": "GLACIER", "c": "DEEP_ARCHIVE", "d": "GLACIER_IR"}
    for key, storage_class in classes.items():
        told = {"x-amz-storage-class": storage_class} if storage_class else {}
        two.home.put("inbox", f"src/{key}", b"1", **told)
    ignored = replace(OPTIONS, ignore_storage_classes=["GLACIER", "DEEP_ARCHIVE"])
    s3 = session.s3(two.settings(), ignored)
    left = ["src/a", "src/d"]
    assert [each.key async for each in s3.list("inbox")] == left
    assert [each.key for each in await s3.find("inbox", "src")] == left
    conditions = aiohaul.Conditions(max_count=2)
    assert [each.key for each in await s3.find("inbox", "src", conditions=conditions)] == left
    assert [each.key for each in await s3.wait_for("inbox", "src", timeout=0)] == left
    assert [each.key for each in (await s3.list_directory("inbox", "src/")).objects] == left
    watch = s3.watch("inbox", "src")
    assert [(await anext(watch)).object.key for _ in left] == left
    await watch.aclose()
    archived = replace(OPTIONS, ignore_storage_classes={"STANDARD", "GLACIER_IR"})
    found = await session.s3(two.settings(), archived).find("inbox", "src")
    assert [each.key for each in found] == ["src/b", "src/c"]


async def test_definition_leaves_ignored_classes_out(two: Two) -> None:
    two.home.put("inbox", "src/a", b"1")
    two.home.put("inbox", "src/b", b"1", **{"x-amz-storage-class": "GLACIER"})
    source = two.source(
        ignoreStorageClasses=["GLACIER"],
        conditionals={"count": {"maxCount": 1}},
        postCopyAction={"action": "delete"},
    )
    assert (await run(transfer(source, two.direct()))).found == 1
    assert set(two.home.contents("inbox")) == {"src/b"}
    with pytest.raises(aiohaul.NothingFoundError, match=r"names like \.\*, not in GLACIER"):
        await run(transfer(source, two.direct()))


# Values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"storage_class": ""}, "storage_class"),
        ({"storage_class": "A\r\nx: y"}, "storage_class"),
        ({"kms_key_id": ""}, "kms_key_id"),
        ({"kms_key_id": "k\n"}, "kms_key_id"),
        ({"request_payer": True}, "request_payer must be 'requester'"),
        ({"expected_bucket_owner": 123456789012}, "12 digits"),
        ({"expected_bucket_owner": "1234"}, "12 digits"),
    ],
)
def test_wrong_write_options_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(aiohaul.SettingsError, match=message):
        WriteOptions(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"request_payer": "me"}, "request_payer must be 'requester'"),
        ({"expected_bucket_owner": "x" * 12}, "12 digits"),
        ({"ignore_storage_classes": "GLACIER"}, r'Use \{"GLACIER"\}'),
        ({"ignore_storage_classes": ["GLACIER", "A B"]}, '"A B" is not the name'),
    ],
)
def test_wrong_source_options_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(aiohaul.SettingsError, match=message):
        SourceOptions(**wrong)


def test_storage_classes_of_other_stores_are_accepted() -> None:
    assert WriteOptions(storage_class="EXPRESS-ONEZONE_9.x").storage_class == "EXPRESS-ONEZONE_9.x"


def test_journal_is_of_copies_not_of_who_pays() -> None:
    side = {"bucket": "b", "directory": "d"}
    asked = {**side, **INBOX, "ignoreStorageClasses": ["GLACIER"]}
    assert definition_identity({"source": asked}) == definition_identity({"source": side})
    written = {**side, "storageClass": "GLACIER_IR"}
    assert definition_identity({"source": written}) != definition_identity({"source": side})
    plain = Destination(bucket="b")
    asking = Destination(bucket="b", options=WriteOptions(request_payer="requester"))
    classed = Destination(bucket="b", options=WriteOptions(storage_class="X"))
    keyed = Destination(bucket="b", options=WriteOptions(kms_key_id="X"))
    texts = [plan.identity([(each, "aws")]) for each in (plain, asking, classed, keyed)]
    assert texts[0] == texts[1]
    assert len({*texts}) == 3


# moto --------------------------------------------------------------------------------------


async def test_moto_keeps_class_and_key(moto_s3: Store) -> None:
    inbox, direct = await moto_s3.bucket(), await moto_s3.bucket()
    await moto_s3.fill(inbox, {"src/a": b"1", "src/b": LARGE})
    written = {"storageClass": "STANDARD_IA", "kmsKeyId": "alias/k"}
    side = {"bucket": inbox, "directory": "src", "fileRegex": ".*", "protocol": moto_s3.protocol()}
    for kind in ("push", "proxy"):
        to = {"bucket": direct, "directory": kind, "transferType": kind, **written}
        assert (await run(transfer(side, {**to, "protocol": moto_s3.protocol()}))).ok
        for key in ("a", "b"):
            head = await moto_s3.head(direct, f"{kind}/{key}")
            assert head["StorageClass"] == "STANDARD_IA"
            assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "alias/k")


async def test_stores_take_class_payer_and_owner(s3: Store) -> None:
    """moto, rclone, and whichever store is asked for. 123456789012 owns the buckets of moto."""
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {"src/a": b"1", "src/b": LARGE})
    options = {"requestPayer": "requester", "expectedBucketOwner": "123456789012"}
    side = {"bucket": inbox, "directory": "src", "fileRegex": ".*", "protocol": s3.protocol()}
    for kind in ("push", "proxy"):
        to = {"bucket": out, "directory": kind, "transferType": kind, "protocol": s3.protocol()}
        # Stores of one's own have the classes that were set up there.
        cls = "STANDARD" if s3.kind in ("juicefs", "ceph") else "STANDARD_IA"
        written = {**to, **options, "storageClass": cls}
        assert (await run(transfer({**side, **options}, written))).ok
        for key, data in (("a", b"1"), ("b", LARGE)):
            assert await s3.get(out, f"{kind}/{key}") == data
            head = await s3.head(out, f"{kind}/{key}")
            assert head.get("StorageClass", "STANDARD") == cls
