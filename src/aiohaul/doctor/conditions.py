"""Probes that test whether the store enforces the conditions of a request."""

from __future__ import annotations

from typing import Any

from aiohaul.doctor.bench import DATA, Bench
from aiohaul.doctor.finding import Finding
from aiohaul.errors import AccessDeniedError, ConflictError, PreconditionFailedError, ServiceError
from aiohaul.s3.objects import uri

#: An ETag that no object in the workspace has.
_OTHER_ETAG = '"00000000000000000000000000000000"'
_NEW_NAMES = "Have producers use a new name for each object."
#: The meaning and the advice of a finding, if the store ignores a condition.
_OVERWRITTEN = (
    "overwrite=False checks the key before the write: an object written in between is replaced",
    "Have each key written by one client at a time.",
)
_DELETED = (
    "aiohaul lists the sources before it deletes them: a version written in between is deleted too",
    _NEW_NAMES,
)


async def put(bench: Bench) -> Finding:
    """Test If-None-Match of PutObject on a key that exists."""
    await bench.put("taken")
    name = "If-None-Match: put"
    return await _judged(
        bench, name, _OVERWRITTEN, "put_object", "taken", Body=DATA, IfNoneMatch="*"
    )


async def complete(bench: Bench) -> Finding:
    """Test If-None-Match of CompleteMultipartUpload on a key that exists."""
    await bench.put("taken-parts")
    upload = await bench.open_upload("taken-parts")
    part = await bench.send_part("taken-parts", upload)
    return await _judged(
        bench,
        "If-None-Match: uploads in parts",
        _OVERWRITTEN,
        "complete_multipart_upload",
        "taken-parts",
        UploadId=upload,
        MultipartUpload={"Parts": [part]},
        IfNoneMatch="*",
    )


async def copy(bench: Bench) -> Finding:
    """Test If-None-Match of CopyObject on a key that exists."""
    await bench.put("source")
    await bench.put("taken-copy", b"other")
    return await _judged(
        bench,
        "If-None-Match: copies",
        _OVERWRITTEN,
        "copy_object",
        "taken-copy",
        CopySource=bench.workspace.at("source"),
        IfNoneMatch="*",
    )


async def copy_source(bench: Bench) -> Finding:
    """Test x-amz-copy-source-if-match of CopyObject with an ETag that the source does not have."""
    await bench.put("source")
    return await _judged(
        bench,
        "If-Match: sources of copies",
        (
            "aiohaul detects a source that is overwritten during its copy only after the copy",
            _NEW_NAMES,
        ),
        "copy_object",
        "copy-of-another",
        CopySource=bench.workspace.at("source"),
        CopySourceIfMatch=_OTHER_ETAG,
    )


async def delete(bench: Bench) -> Finding:
    """Test If-Match of DeleteObject with an ETag that the object does not have."""
    await bench.put("kept")
    with bench.needs("s3:DeleteObject"):
        return await _judged(
            bench,
            "If-Match: deletes",
            _DELETED,
            "delete_object",
            "kept",
            IfMatch=_OTHER_ETAG,
        )


async def bulk_delete(bench: Bench) -> Finding:
    """Test the ETag of a key in DeleteObjects with an ETag that the object does not have."""
    name = "If-Match: bulk deletes"
    await bench.put("kept-in-bulk")
    bench.operations.add("delete_objects")
    answer = await bench.workspace.delete_all(["kept-in-bulk"], ETag=_OTHER_ETAG)
    codes = [str(each.get("Code")) for each in answer.get("Errors", ())]
    if not codes:
        return Finding(name, "limited", "is ignored", *_DELETED, {"enforced": False})
    if codes != ["PreconditionFailed"]:
        return Finding(name, "unknown", f"refused for another reason: {codes[0]}")
    return Finding(name, "ok", "is enforced", values={"enforced": True})


async def _judged(
    bench: Bench, name: str, ignored: tuple[str, str], operation: str, key: str, **parameters: Any
) -> Finding:
    """Send a request whose condition is false, and check that the store rejects the request."""
    try:
        await bench.write(operation, key, **parameters)
    except (PreconditionFailedError, ConflictError):
        bench.learn(operation, parameters, enforced=True)
        return Finding(name, "ok", "is enforced", values={"enforced": True})
    except AccessDeniedError:
        raise
    except ServiceError as error:
        return Finding(
            name,
            "limited",
            f"is not known: {uri(bench.bucket)} answers {error.code}",
            *ignored,
            {"enforced": False},
        )
    bench.learn(operation, parameters, enforced=False)
    return Finding(name, "limited", "is ignored", *ignored, {"enforced": False})
