"""Probes that write into the workspace, and test the operations of a transfer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from aiohaul.aws.endpoint_support import is_not_implemented
from aiohaul.aws.error_codes import service_error
from aiohaul.doctor.bench import DATA, Bench
from aiohaul.doctor.finding import Finding
from aiohaul.errors import AccessDeniedError, ObjectNotFoundError, ServiceError
from aiohaul.s3.objects import is_md5, uri
from aiohaul.s3.options import WRITE_OPTIONS, acl
from aiohaul.s3.streaming.checksum_fallback import with_algorithm
from aiohaul.s3.streaming.checksums import Algorithm, best, full_object_checksum, oldest

_MIB = 2**20
_THROUGHPUT_SIZE = 8 * _MIB
#: Names in the order of their bytes in UTF-8, which is the order of ListObjectsV2.
_NAMES = ("Z", "a", "a b", "a+%25", "b", "\u00fc", "\U0001f680")


async def write(bench: Bench) -> Finding:
    """Write a small object, and check its size. AWS: PutObject, HeadObject."""
    with bench.needs("s3:PutObject"):
        answer = await bench.put("first")
    head = await bench.ask("head_object", Key=bench.workspace.key("first"))
    if head["ContentLength"] != len(DATA):
        return Finding(
            "write",
            "failed",
            f"{len(DATA)} bytes were written, and {head['ContentLength']} are there",
        )
    kind = "MD5s" if is_md5(str(answer.get("ETag", "")).strip('"')) else "no MD5s"
    return Finding("write", "ok", f"works; ETags are {kind}")


async def access_list(bench: Bench) -> Finding:
    """Write with the ACL bucket-owner-full-control. AWS: PutObject."""
    try:
        with bench.needs("s3:PutObjectAcl"):
            await bench.put("acl", DATA, **acl(WRITE_OPTIONS))
    except AccessDeniedError:
        raise
    except ServiceError as error:
        return Finding(
            "ACL",
            "failed",
            f"bucket-owner-full-control is refused ({error.code})",
            "every write is refused",
            "Set disableBucketOwnerControlACL (in the library bucket_owner_full_control=False).",
        )
    return Finding("ACL", "ok", "bucket-owner-full-control is taken")


async def checksums(bench: Bench) -> Finding:
    """Write with a correct and with a wrong checksum. AWS: PutObject, HeadObject."""

    async def put(algorithm: Algorithm | None) -> Algorithm:
        used = algorithm or oldest()
        await bench.put("checksum", DATA, **{used.parameter: used.encode(used.of(DATA))})
        return used

    preferred = best()
    algorithm = await with_algorithm(bench.s3, preferred, oldest(), put)
    wrong = {algorithm.parameter: algorithm.encode(algorithm.of(DATA) ^ 1)}
    head = await bench.ask(
        "head_object", Key=bench.workspace.key("checksum"), ChecksumMode="ENABLED"
    )
    is_kept = full_object_checksum(head) is not None
    try:
        await bench.put("wrong-checksum", DATA, **wrong)
    except ServiceError:
        is_verified = True
    else:
        is_verified = False
    name = algorithm.name
    values = {"algorithm": name, "kept": is_kept, "verified": is_verified}
    refused = "" if algorithm == preferred else f"{preferred.name} is refused; "
    verified = "verified" if is_verified else "not verified"
    found = f"{refused}{name} is {verified}, and {'kept' if is_kept else 'not kept'}"
    if is_kept and is_verified:
        return Finding("checksums", "ok", found, values=values)
    return Finding(
        "checksums",
        "limited",
        found,
        "copies are compared by size, and by MD5 where ETags are MD5s",
        "Use reread=True where copies have to be proven, byte by byte.",
        values,
    )


async def bulk_deletion(bench: Bench) -> Finding:
    """Delete three objects in one request. AWS: DeleteObjects."""
    names = [f"bulk-{number}" for number in range(3)]
    for name in names:
        await bench.put(name)
    bench.operations.add("delete_objects")
    try:
        with bench.needs("s3:DeleteObject"):
            answer = await bench.workspace.delete_all(names)
            if errors := answer.get("Errors", ()):
                raise _error_of_key(errors[0], uri(bench.bucket, bench.workspace.directory))
    except ServiceError as error:
        if not is_not_implemented(error):
            raise
        bench.s3.support.missing.add("DeleteObjects")
        return Finding(
            "bulk deletion",
            "limited",
            f"does not work ({error.code})",
            "objects are deleted one by one, with a request for each",
        )
    return Finding("bulk deletion", "ok", "works, a thousand keys a request")


def _error_of_key(response: Mapping[str, str], target: str) -> ServiceError:
    return service_error(
        response.get("Code", "Unknown"),
        response.get("Message", ""),
        operation="DeleteObjects",
        target=target,
        status=None,
        request_id=None,
    )


async def multipart(bench: Bench) -> Finding:
    """Upload an object in one part.

    AWS: CreateMultipartUpload, UploadPart, ListParts, CompleteMultipartUpload, HeadObject.
    """
    upload = await bench.open_upload("parts")
    part = await bench.send_part("parts", upload)
    with suppress(AccessDeniedError), bench.needs("s3:ListMultipartUploadParts"):
        await bench.ask("list_parts", Key=bench.workspace.key("parts"), UploadId=upload)
    answer = await bench.complete("parts", upload, part)
    has_etag = bool(str(answer.get("ETag", "")).strip('"'))
    head = await bench.ask("head_object", Key=bench.workspace.key("parts"))
    if head["ContentLength"] != len(DATA):
        return Finding(
            "uploads in parts", "failed", "the size of the object is not the size of its parts"
        )
    if not has_etag:
        return Finding(
            "uploads in parts",
            "limited",
            "work; CompleteMultipartUpload answers without an ETag",
            "aiohaul sends one more request (HeadObject) to get the ETag",
        )
    return Finding("uploads in parts", "ok", "work")


async def open_uploads(bench: Bench) -> Finding:
    """List and abort an open upload. AWS: ListMultipartUploads, AbortMultipartUpload."""
    upload = await bench.open_upload("aborted")
    key = bench.workspace.key("aborted")
    is_listed: bool | None = None
    with suppress(AccessDeniedError), bench.needs("s3:ListBucketMultipartUploads"):
        page = await bench.ask("list_multipart_uploads", Prefix=key)
        is_listed = any(each.get("UploadId") == upload for each in page.get("Uploads", ()))
    with bench.needs("s3:AbortMultipartUpload"):
        await bench.ask("abort_multipart_upload", Key=key, UploadId=upload)
    bench.workspace.forget_upload("aborted", upload)
    if is_listed:
        return Finding("open uploads", "ok", "are listed, and aborted")
    return Finding(
        "open uploads",
        "limited",
        f"are aborted, and {'not listed' if is_listed is False else 'may not be listed'}",
        "an upload whose id was lost (a killed run) cannot be found again",
        "Have a lifecycle rule abort incomplete uploads.",
    )


async def part_copies(bench: Bench) -> Finding:
    """Copy a part from another object. AWS: UploadPartCopy."""
    upload = await bench.open_upload("copied-parts")
    bench.operations.add("upload_part_copy")
    key = bench.workspace.key("copied-parts")
    try:
        answer = await bench.s3.attempt(
            "upload_part_copy",
            uri(bench.bucket, key),
            Bucket=bench.bucket,
            Key=key,
            UploadId=upload,
            PartNumber=1,
            CopySource=_first(bench),
        )
    except AccessDeniedError:
        raise
    except ServiceError as error:
        return _no_part_copies(error.code)
    etag = answer.get("CopyPartResult", {}).get("ETag")
    if not etag:
        return _no_part_copies("no ETag")
    await bench.complete("copied-parts", upload, {"PartNumber": 1, "ETag": etag})
    head = await bench.ask("head_object", Key=key)
    if head["ContentLength"] != len(DATA):
        return _no_part_copies("the part is empty")
    return Finding("copies in parts", "ok", "work")


def _no_part_copies(reason: str) -> Finding:
    return Finding(
        "copies in parts",
        "limited",
        f"do not work ({reason})",
        "objects of more than 5 GiB are read and written by aiohaul itself",
    )


async def tags(bench: Bench) -> Finding:
    """Write an object, a copy and an upload with tags, and read the tags.

    AWS: PutObject, CopyObject, CreateMultipartUpload, GetObjectTagging.
    """
    try:
        with bench.needs("s3:PutObjectTagging"):
            await bench.put("tagged", DATA, Tagging="aiohaul=doctor")
        with bench.needs("s3:GetObjectTagging"):
            is_kept = await _tagged(bench, "tagged")
    except AccessDeniedError:
        raise
    except ServiceError as error:
        return _lost_tags(f"are not known here ({error.code})")
    await bench.write("copy_object", "tagged-copy", CopySource=bench.workspace.at("tagged"))
    is_copied = await _tagged(bench, "tagged-copy")
    upload = await bench.open_upload("tagged-parts", Tagging="aiohaul=doctor")
    await bench.complete("tagged-parts", upload, await bench.send_part("tagged-parts", upload))
    is_uploaded = await _tagged(bench, "tagged-parts")
    values = {"writes": is_kept, "copies": is_copied, "uploads in parts": is_uploaded}
    lost = [name for name, kept in values.items() if not kept]
    if not lost:
        return Finding("tags", "ok", "are kept, copied, and taken with uploads", values=values)
    return replace(_lost_tags(f"are lost by {' and '.join(lost)}"), values=values)


def _lost_tags(found: str) -> Finding:
    return Finding(
        "tags",
        "limited",
        found,
        "copies lack tags that their sources have",
        "Do not rely on the tags of copies.",
    )


async def _tagged(bench: Bench, name: str) -> bool:
    answer = await bench.ask("get_object_tagging", Key=bench.workspace.key(name))
    return [(each["Key"], each["Value"]) for each in answer.get("TagSet", ())] == [
        ("aiohaul", "doctor")
    ]


async def listing(bench: Bench) -> Finding:
    """List names with special characters, in pages of three keys. AWS: ListObjectsV2."""
    for name in reversed(_NAMES):
        await bench.put(f"list/{name}", b"")
    prefix = bench.workspace.key("list/")
    seen: list[str] = []
    after: dict[str, str] = {}
    for _ in _NAMES:
        page = await bench.ask("list_objects_v2", Prefix=prefix, MaxKeys=3, **after)
        seen += [each["Key"].removeprefix(prefix) for each in page.get("Contents", ())]
        if not page.get("IsTruncated"):
            break
        after = {"ContinuationToken": page["NextContinuationToken"]}
    if tuple(seen) == _NAMES:
        return Finding("listings", "ok", "show at once what was written, in the order of the keys")
    if sorted(seen) != sorted(_NAMES):
        missing = sorted(set(_NAMES) - set(seen))
        return Finding(
            "listings",
            "failed",
            f"show {len(seen)} of {len(_NAMES)} objects that were just written; missing: {missing}",
            "objects are overlooked",
            "Do not use this store for watches, nor keys like these.",
        )
    return Finding(
        "listings",
        "limited",
        "are not in the order of the keys",
        "wait_for(early=True) may take other objects first",
    )


async def nested_keys(bench: Bench) -> Finding:
    """Write the keys ``a`` and ``a/b``, and list both. AWS: PutObject, ListObjectsV2."""
    await bench.put("nested")
    try:
        await bench.put("nested/below")
        page = await bench.ask("list_objects_v2", Prefix=bench.workspace.key("nested"))
    except AccessDeniedError:
        raise
    except ServiceError as error:
        return _no_nested_keys(f"are refused ({error.code})")
    if len(list(page.get("Contents", ()))) != 2:  # noqa: PLR2004  # the two of them
        return _no_nested_keys("are taken, and one of the two is not listed")
    return Finding("keys below keys", "ok", "a/b can be there beside a")


def _no_nested_keys(found: str) -> Finding:
    return Finding(
        "keys below keys",
        "limited",
        f"{found}: a/b beside a",
        "the store keeps objects as files",
        "Use no key as the directory of another one.",
    )


async def throughput(bench: Bench) -> Finding:
    """Measure the upload and the download of 8 MiB on one connection. AWS: PutObject, GetObject."""
    data = bytes(range(256)) * (_THROUGHPUT_SIZE // 256)
    began = time.perf_counter()
    await bench.put("large", data)
    up = _THROUGHPUT_SIZE / _MIB / (time.perf_counter() - began)
    key = bench.workspace.key("large")
    began = time.perf_counter()
    body, _ = await bench.s3.read(uri(bench.bucket, key), Bucket=bench.bucket, Key=key)
    down = _THROUGHPUT_SIZE / _MIB / (time.perf_counter() - began)
    if len(body) != len(data):
        return Finding(
            "throughput", "failed", f"GetObject returned {len(body)} of {len(data)} bytes"
        )
    return Finding(
        "throughput",
        "ok",
        f"{up:.0f} MiB/s up, {down:.0f} MiB/s down, on one connection",
        values={"up": round(up, 1), "down": round(down, 1)},
    )


async def missing_key(bench: Bench) -> Finding:
    """Test the permissions for uploads without writing, with an upload id that does not exist.

    AWS: AbortMultipartUpload, ListParts, ListMultipartUploads.
    """
    key = bench.workspace.key("none")
    for permission, operation, more in (
        ("s3:AbortMultipartUpload", "abort_multipart_upload", {"UploadId": "none"}),
        ("s3:ListMultipartUploadParts", "list_parts", {"UploadId": "none"}),
        ("s3:ListBucketMultipartUploads", "list_multipart_uploads", {}),
    ):
        at: Mapping[str, str] = {"Prefix": key} if operation.startswith("list_m") else {"Key": key}
        try:
            with bench.needs(permission):
                await bench.ask(operation, **at, **more)
        except ObjectNotFoundError:
            bench.allowed.add(permission)
        except ServiceError:
            continue
    return Finding("uploads", "skipped", "writing is not allowed, so uploads were not tested")


def _first(bench: Bench) -> dict[str, str]:
    return bench.workspace.at("first")
