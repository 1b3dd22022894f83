"""Searches the lines that a writer adds to an object. AWS: HeadObject, GetObject."""

from __future__ import annotations

import re

from anyio.lowlevel import checkpoint

from aiohaul.aws.service import Service
from aiohaul.errors import ObjectNotFoundError, PreconditionFailedError
from aiohaul.polling import poll_until
from aiohaul.progress import OnProgress
from aiohaul.regexes.bounded import bounded
from aiohaul.s3.objects import S3Object, head_object, quoted, uri
from aiohaul.threads import run_in_thread_if

#: Maximum number of bytes that one GetObject reads.
_CHUNK = 1024 * 1024
#: Number of lines searched before the task yields to the event loop.
_LINES_AT_ONCE = 2000


class Tail:
    """Searches the new lines of an object that grows.

    A writer replaces the object each time by a longer one, with lines added at the end.

    Args:
        bucket: the bucket of the object.
        key: the key of the object.
        pattern: the regex to search for in every line.
    """

    def __init__(self, bucket: str, key: str, pattern: re.Pattern[str]) -> None:
        self._bucket = bucket
        self._key = key
        self._pattern = pattern
        self._start = 0
        self._line = b""  # the last line, which the writer may not have finished

    async def start(self, s3: Service, *, at_end: bool) -> None:
        """Set the byte at which the search starts. AWS: HeadObject.

        Args:
            s3: the client.
            at_end: True starts at the end of the object as it is now. False starts at byte 0.

        Raises:
            ObjectNotFoundError: the object does not exist.
            ServiceError: the request failed for another reason.
        """
        now = await head_object(s3, self._bucket, self._key)
        self._start, self._line = now.size if at_end else 0, b""

    async def next_match(self, s3: Service) -> str | None:
        """Search the bytes that were added since the last call. AWS: HeadObject, GetObject.

        If the object is shorter than before, the search starts again at byte 0.

        Returns:
            The first line that matches, or None.

        Raises:
            ObjectNotFoundError: the object does not exist.
            ServiceError: a request failed for another reason.
        """
        now = await head_object(s3, self._bucket, self._key)
        if now.size < self._start:
            self._start, self._line = 0, b""
        while self._start < now.size:
            try:
                data = await _read(s3, now, self._start)
            except PreconditionFailedError:
                return None  # the object changed after HeadObject: the next poll reads it
            self._start += len(data)
            if (line := await self._first_match(data)) is not None:
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
        """Wait for a line that matches. The object may not exist yet.

        Args:
            s3: the client.
            at_end: True searches only the lines that are added after the wait starts.
            timeout: seconds.
            interval: seconds between two polls.
            on_progress: called after every poll without a match.

        Returns:
            The first line that matches.

        Raises:
            WatchTimeoutError: no line matched before the timeout.
            ServiceError: a request failed.
        """
        started = not at_end

        async def poll() -> str | None:
            nonlocal started
            try:
                if not started:
                    await self.start(s3, at_end=True)
                    started = True
                return await self.next_match(s3)
            except ObjectNotFoundError:
                started = True  # an object that is written later is new from byte 0
                self._start, self._line = 0, b""
                return None

        where = f"{uri(self._bucket, self._key)} (lines like {self._pattern.pattern})"
        return await poll_until(
            poll, where=where, timeout=timeout, interval=interval, on_progress=on_progress
        )

    async def _first_match(self, data: bytes) -> str | None:
        regex = bounded(self._pattern)
        *lines, self._line = (self._line + data).split(b"\n")
        lines.append(self._line)
        for start in range(0, len(lines), _LINES_AT_ONCE):
            await checkpoint()
            some = [line.decode(errors="replace") for line in lines[start : start + _LINES_AT_ONCE]]
            found = await run_in_thread_if(not regex.is_fast_in_lines, regex.first_line, some)
            if found is not None:
                return found
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
