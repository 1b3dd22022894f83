"""Writes the doctor's test objects into a directory of a bucket, and deletes them again."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiohaul.aws.service import Service
from aiohaul.cancellation import run_shielded
from aiohaul.concurrency import run_limited
from aiohaul.doctor.finding import Remnant
from aiohaul.errors import HaulError, ObjectNotFoundError, ServiceError
from aiohaul.s3.objects import uri

#: Seconds that a write, and then the cleanup, may take after the caller is cancelled. The doctor
#: waits for a write, because an object that is written after the cleanup would remain.
_WRITE_GRACE = 5.0
_CLEANUP_GRACE = 15.0
#: Maximum number of seconds of the cleanup.
_CLEANUP_TIMEOUT = 120.0
_WIDTH = 16

#: A key and its version, "" without one.
Version = tuple[str, str]


@dataclass
class _Cleanup:
    """The objects and uploads that the cleanup has not deleted yet, each with the reason."""

    remaining: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def add(self, items: Iterable[tuple[str, str, str]]) -> None:
        """Add objects and uploads to delete."""
        for each in items:
            self.remaining.setdefault(each, "there was no time to remove it")


class Workspace:
    """A directory with a random name, which records every object that is written into it.

    :meth:`clean` deletes the recorded objects only, by key and version, and no other object with
    the same prefix.

    Args:
        s3: the client that sends the requests.
        bucket: the bucket.
        prefix: the parent directory with "/" at its end, or "".
    """

    def __init__(self, s3: Service, bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.directory = f"{prefix}.aiohaul-doctor-{secrets.token_hex(8)}/"
        self._s3 = s3
        #: The keys that may exist.
        self._keys: set[str] = set()
        self._versions: set[Version] = set()
        self._uploads: set[tuple[str, str]] = set()
        #: True if the bucket has versioning, so that a delete without a version id would write a
        #: delete marker.
        self.has_versions = False
        #: The objects and uploads that the cleanup could not delete.
        self.remnants: list[Remnant] = []

    def key(self, name: str) -> str:
        """Return the key of a name in the directory."""
        return self.directory + name

    def at(self, name: str) -> dict[str, str]:
        """Return the parameters Bucket and Key of a name in the directory."""
        return {"Bucket": self.bucket, "Key": self.key(name)}

    @property
    def is_used(self) -> bool:
        """True if the doctor wrote, or may have written, an object or an upload."""
        return bool(self._keys or self._versions or self._uploads)

    async def write(self, operation: str, name: str, **parameters: Any) -> dict[str, Any]:
        """Send a request, without retries, that writes an object or a delete marker.

        Args:
            operation: the operation: ``put_object``, ``copy_object`` or ``delete_object``.
            name: the name of the object in the directory.
            parameters: the other parameters of the operation.

        Returns:
            The response.

        Raises:
            ServiceError: the request failed.
        """
        key = self.key(name)
        is_new = key not in self._keys
        self._keys.add(key)
        answer: dict[str, Any] = {}

        def keep(response: dict[str, Any]) -> None:
            answer.update(response)
            if upload := parameters.get("UploadId"):  # it is completed
                self.forget_upload(name, upload)
            if version := response.get("VersionId"):
                self.has_versions = True
                self._versions.add((key, version))

        once = partial(self._s3.attempt, operation, uri(self.bucket, key), **self.at(name))
        try:
            await run_shielded(partial(once, **parameters), _WRITE_GRACE, keep)
        except ServiceError as error:
            if is_new and not error.outcome_unknown:
                self._keys.discard(key)  # S3 rejected the request, so the key does not exist
            raise
        return answer

    async def open_upload(self, name: str, **parameters: Any) -> str:
        """Start a multipart upload, and return the upload id. AWS: CreateMultipartUpload.

        Raises:
            ServiceError: the request failed.
        """
        answer = await self.write("create_multipart_upload", name, **parameters)
        upload: str = answer["UploadId"]
        self._uploads.add((self.key(name), upload))
        return upload

    def forget_upload(self, name: str, upload: str) -> None:
        """Forget an upload that was completed or aborted."""
        self._uploads.discard((self.key(name), upload))

    async def delete_all(self, names: Iterable[str], **parameters: Any) -> dict[str, Any]:
        """Delete several objects in one request, and return the response. AWS: DeleteObjects.

        Raises:
            ServiceError: the request failed.
        """
        objects = [{"Key": self.key(name), **parameters} for name in names]
        answer = await self._s3.attempt(
            "delete_objects",
            uri(self.bucket, self.directory),
            Bucket=self.bucket,
            Delete={"Objects": objects},
        )
        for each in answer.get("Deleted", ()):
            if version := each.get("DeleteMarkerVersionId"):
                self.has_versions = True
                self._versions.add((each["Key"], version))
        return answer

    async def clean(self) -> None:
        """Delete all recorded objects and uploads, also if cancelled, and check that none is left.

        AWS: DeleteObject, with the version where there are versions; AbortMultipartUpload;
        ListObjectVersions or ListObjectsV2, and ListMultipartUploads.

        After that, ``remnants`` contains the objects and uploads that could not be deleted.
        """
        if not self.is_used:
            return
        cleanup = _Cleanup()
        try:
            await run_shielded(
                partial(self._clean, cleanup), _CLEANUP_GRACE, timeout=_CLEANUP_TIMEOUT
            )
        finally:
            self.remnants = [
                Remnant(uri(self.bucket, key), version, upload, reason)
                for (key, version, upload), reason in sorted(cleanup.remaining.items())
            ]

    async def _clean(self, cleanup: _Cleanup) -> None:
        written = self._versions if self.has_versions else {(key, "") for key in self._keys}
        cleanup.add((key, version, "") for key, version in written)
        cleanup.add((key, "", upload) for key, upload in self._uploads)
        there = await self._found(self._there())
        cleanup.add((key, version, "") for key, version in there)
        uploads = await self._found(self._open_uploads())
        cleanup.add((key, "", upload) for key, upload in uploads)
        jobs = [partial(self._remove, each, cleanup) for each in cleanup.remaining]
        await run_limited(jobs, _WIDTH)
        for key, version in await self._found(self._there()):
            cleanup.remaining.setdefault((key, version, ""), "it was deleted, and is still there")

    async def _remove(self, what: tuple[str, str, str], cleanup: _Cleanup) -> None:
        key, version, upload = what
        if upload:
            reason = await self._removed("abort_multipart_upload", key, UploadId=upload)
        else:
            which = {"VersionId": version} if version else {}
            reason = await self._removed("delete_object", key, **which)
        if reason:
            cleanup.remaining[what] = reason
        else:
            del cleanup.remaining[what]

    async def _removed(self, operation: str, key: str, **parameters: str) -> str:
        """Send a delete or abort. Return "" if it succeeded, else the reason of the failure."""
        try:
            await self._s3.call(
                operation, uri(self.bucket, key), Bucket=self.bucket, Key=key, **parameters
            )
        except ObjectNotFoundError:
            return ""
        except HaulError as error:
            return str(error)
        return ""

    async def _found(self, listing: AsyncIterator[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the items of a listing that the doctor wrote; none if the listing fails."""
        try:
            return [each async for each in listing if each[0] in self._keys]
        except ServiceError:
            return []

    async def _there(self) -> AsyncIterator[Version]:
        """List the objects of the directory; with versioning, all versions and delete markers."""
        operation = "list_object_versions" if self.has_versions else "list_objects_v2"
        parameters: dict[str, str] = {}
        while True:
            page = await self._s3.call(
                operation,
                uri(self.bucket, self.directory),
                Bucket=self.bucket,
                Prefix=self.directory,
                **parameters,
            )
            for each in page.get("Contents", ()):
                yield each["Key"], ""
            for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                yield each["Key"], each["VersionId"]
            if not page.get("IsTruncated"):
                return
            after = {
                "KeyMarker": page.get("NextKeyMarker"),
                "VersionIdMarker": page.get("NextVersionIdMarker"),
                "ContinuationToken": page.get("NextContinuationToken"),
            }
            parameters = {name: value for name, value in after.items() if value}

    async def _open_uploads(self) -> AsyncIterator[tuple[str, str]]:
        page = await self._s3.call(
            "list_multipart_uploads",
            uri(self.bucket, self.directory),
            Bucket=self.bucket,
            Prefix=self.directory,
        )
        for each in page.get("Uploads", ()):
            if (each["Key"], each["UploadId"]) not in self._uploads:
                yield each["Key"], each["UploadId"]
