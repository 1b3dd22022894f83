"""The method delete_keys of S3Handler, which deletes objects in whichever version they are."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from aiohaul.cancellation import in_own_task
from aiohaul.errors import PlanError
from aiohaul.report import ActionReport, Failure
from aiohaul.s3.object_io.access import S3Access
from aiohaul.s3.objects import S3Object, delete_objects, uri
from aiohaul.user_code import user_code

_EVER = datetime.fromtimestamp(0, UTC)


@in_own_task
async def delete_keys(self: S3Access, bucket: str, keys: Iterable[str]) -> ActionReport:
    """Delete the current version of each key, whatever it is.

    :meth:`delete` spares objects that were overwritten after they were listed; this method does
    not. In a bucket with versions, a delete marker hides the older versions.

    AWS: DeleteObjects, one request per 1,000 keys. DeleteObject for keys that XML cannot contain,
    and at endpoints without DeleteObjects.

    Args:
        bucket: the bucket.
        keys: the keys. A key that does not exist counts as deleted.

    Returns:
        A report. The failures of single keys are in the report, and are not raised.

    Raises:
        PlanError: ``keys`` is one str, or has an empty key. Nothing was deleted.
        SessionError: the Session was closed meanwhile.
    """
    if isinstance(keys, str):
        raise PlanError(
            f"deleting from {uri(bucket)} failed: keys is the str {keys!r}, and must be an iterable"
            " of keys. Put the key into a list"
        )
    with user_code("the iterable of keys"):
        objects = [S3Object(bucket, key, 0, "", _EVER) for key in dict.fromkeys(keys)]
    if any(not each.key for each in objects):
        raise PlanError(f"deleting from {uri(bucket)} failed: a key is empty. Nothing was deleted")
    async with self._clients.cancel_on_close("the objects were deleted"):
        failures = await delete_objects(await self._s3(), objects)
        return ActionReport(
            action="delete",
            objects=len(objects) - len(failures),
            failures=tuple(Failure.of(each.uri, error) for each, error in failures),
        )
    raise AssertionError  # pragma: no cover  # cancel_on_close raises if it ends the block
