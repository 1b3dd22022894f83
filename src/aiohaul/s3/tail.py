"""What was added to an object since the last look."""

from __future__ import annotations

import re

from aiohaul.aws.service import Service
from aiohaul.errors import PreconditionFailedError
from aiohaul.s3.objects import S3Object, head_object, quoted

#: Bytes that one request reads.
_CHUNK = 8 * 1024 * 1024


class Tail:
    """Looks for a line in an object that is written anew, and longer, again and again.

    Args:
        bucket: its bucket.
        key: its key.
        pattern: searched for in every line.
    """

    def __init__(self, bucket: str, key: str, pattern: re.Pattern[str]) -> None:
        self._bucket = bucket
        self._key = key
        self._pattern = pattern
        self._start = 0
        self._line = b""  # the last one, as far as it was there

    async def begin(self, s3: Service, *, at_end: bool) -> None:
        """Make sure that the object is there.

        Args:
            s3: the way to S3.
            at_end: look only at what will be added from now on.

        Raises:
            ObjectNotFoundError: it is not there.
            ServiceError: or another of its kinds.
        """
        now = await head_object(s3, self._bucket, self._key)
        self._start, self._line = now.size if at_end else 0, b""

    async def found(self, s3: Service) -> bool:
        """Read what was added since the last look: True if a line matches.

        An object that is shorter than it was is another one, and read from its start.

        Raises:
            ObjectNotFoundError: it is not there any more.
            ServiceError: or another of its kinds.
        """
        now = await head_object(s3, self._bucket, self._key)
        if now.size < self._start:
            self._start, self._line = 0, b""
        while self._start < now.size:
            try:
                data = await _read(s3, now, self._start)
            except PreconditionFailedError:
                return False  # it was written anew just now: the next look sees it whole
            self._start += len(data)
            *lines, self._line = (self._line + data).split(b"\n")
            if any(self._matches(line) for line in (*lines, self._line)):
                return True
        return False

    def _matches(self, line: bytes) -> bool:
        return self._pattern.search(line.decode(errors="replace")) is not None


async def _read(s3: Service, version: S3Object, start: int) -> bytes:
    end = min(start + _CHUNK, version.size) - 1
    data, _ = await s3.read(
        version.uri,
        Bucket=version.bucket,
        Key=version.key,
        Range=f"bytes={start}-{end}",
        IfMatch=quoted(version.etag),
    )
    return data
