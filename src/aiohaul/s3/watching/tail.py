"""What was added to an object since the last look."""

from __future__ import annotations

import re

from anyio.lowlevel import checkpoint

from aiohaul.aws.service import Service
from aiohaul.errors import ObjectNotFoundError, PreconditionFailedError
from aiohaul.looking import look_until_found
from aiohaul.progress import OnProgress
from aiohaul.s3.objects import S3Object, head_object, quoted, uri

#: Bytes that one request reads.
_CHUNK = 1024 * 1024
#: Lines that are looked through without giving the loop a turn.
_ONE_GO = 2000


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

    async def found(self, s3: Service) -> str | None:
        """Read what was added since the last look: the first line that matches.

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
                return None  # it was written anew just now: the next look sees it whole
            self._start += len(data)
            if (line := await self._first(data)) is not None:
                return line
        return None

    async def wait(
        self,
        s3: Service,
        *,
        at_end: bool,
        timeout: float,
        interval: float,
        on_progress: OnProgress,
    ) -> str:
        """Wait for a line that matches. The object need not be there yet.

        Raises:
            WatchTimeoutError: no line did until the timeout.
            ServiceError: it cannot be read.
        """
        begun = not at_end

        async def look() -> str | None:
            nonlocal begun
            try:
                if not begun:
                    await self.begin(s3, at_end=True)
                    begun = True
                return await self.found(s3)
            except ObjectNotFoundError:
                begun = True  # what comes later is new
                self._start, self._line = 0, b""
                return None

        where = f"{uri(self._bucket, self._key)} (lines like {self._pattern.pattern})"
        return await look_until_found(
            look, where=where, timeout=timeout, interval=interval, on_progress=on_progress
        )

    async def _first(self, data: bytes) -> str | None:
        *lines, self._line = (self._line + data).split(b"\n")
        for number, line in enumerate((*lines, self._line)):
            if number % _ONE_GO == 0:
                await checkpoint()
            text = line.decode(errors="replace")
            if self._pattern.search(text) is not None:
                return text
        return None


async def _read(s3: Service, version: S3Object, start: int) -> bytes:
    end = min(start + _CHUNK, version.size) - 1
    data, _ = await s3.read(
        version.uri,
        Bucket=version.bucket,
        Key=version.key,
        Range=f"bytes={start}-{end}",
        IfMatch=quoted(version.etag),
    )
    return bytes(data)
