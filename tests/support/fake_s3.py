"""An S3 endpoint of the tests' own: as strict as AWS, as slow as a test wants.

What is read is made up from its offset; what is written is counted and summed up, not kept: objects
may be larger than memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

from aiohttp import web

from aiohaul.s3.streaming.checksums import Algorithm, algorithms, combined_crc32

_BLOCK = bytes(range(251)) * 4177  # a prime number of values: every offset looks different


def content(start: int, size: int) -> bytes:
    """The bytes of every source."""
    at = start % len(_BLOCK)
    whole = _BLOCK * ((at + size) // len(_BLOCK) + 1)
    return whole[at : at + size]


@dataclass
class Written:
    size: int
    #: CRC32, whatever the request carried
    crc: int
    etag: str
    headers: dict[str, str]
    parts: int = 0
    #: by the checksum that the request carried
    checksum: int = 0


@dataclass
class FakeS3:
    url: str = ""
    #: sizes of the objects that can be read, by "/bucket/key"
    sources: dict[str, int] = field(default_factory=dict)
    objects: dict[str, Written] = field(default_factory=dict)
    uploads: dict[str, dict[int, Written]] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    #: speaks checksums, as AWS does
    checksums: bool = True
    #: bytes a second that it reads of bodies; 0 is as fast as they come
    rate: float = 0.0
    #: answers this error to so many requests that a regex finds, "METHOD path?query"
    errors: list[list[object]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    #: seconds before every answer
    delay: float = 0.0
    #: changes the first byte of so many bodies that it sends, or gets
    damage_answers: int = 0
    damage_bodies: int = 0
    under_way: int = 0
    peak: int = 0

    def fail(self, match: str, status: int, code: str, times: int = 1) -> None:
        self.errors.append([match, status, code, times])

    def count(self, match: str) -> int:
        return sum(bool(re.search(match, line)) for line in self.log)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        method = "COPY" if "x-amz-copy-source" in request.headers else request.method
        line = f"{method} {request.raw_path}"
        self.log.append(line)
        self.under_way += 1
        self.peak = max(self.peak, self.under_way)
        try:
            for rule in self.errors:
                match, status, code, times = rule
                if int(str(times)) > 0 and re.search(str(match), line):
                    rule[3] = int(str(times)) - 1
                    await self._body(request)
                    return _error(int(str(status)), str(code))
            if self.delay:
                await asyncio.sleep(self.delay)
            return await self._answer(request)
        finally:
            self.under_way -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path, query = request.path, request.query
        match request.method:
            case "GET" if "tagging" in query:
                return web.Response(text="<Tagging><TagSet/></Tagging>")
            case "GET" | "HEAD":
                return self._read(request)
            case "POST" if "uploads" in query:
                upload_id = f"upload-{len(self.uploads)}"
                self.uploads[upload_id] = {}
                self.headers[upload_id] = dict(request.headers)
                told = {}
                if self.checksums and "x-amz-checksum-algorithm" in request.headers:
                    told = {
                        name: request.headers[name]
                        for name in ("x-amz-checksum-algorithm", "x-amz-checksum-type")
                    }
                return _xml("InitiateMultipartUploadResult", told, UploadId=upload_id)
            case "POST":
                return await self._complete(request, path, query["uploadId"])
            case "DELETE":
                self.uploads.pop(query.get("uploadId", ""), None)
                return web.Response(status=204)
            case _:
                return await self._write(request)

    def _read(self, request: web.Request) -> web.Response:
        if request.path not in self.sources:
            found = self.objects.get(request.path)
            if found is None:
                return web.Response(status=404)
            headers = {
                "ETag": found.etag,
                "Content-Length": str(found.size),
                "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
            }
            if request.method == "HEAD":
                return web.Response(headers=headers)
            data = content(0, found.size)
            if zlib.crc32(data) != found.crc:
                data = b"!" + data[1:]
            start, end = _range(request, found.size)
            del headers["Content-Length"]
            return web.Response(headers=headers, body=data[start : end + 1])
        size = self.sources[request.path]
        headers = {"ETag": '"0-1"', "Content-Type": "text/x-made-up", "x-amz-meta-a": "b"}
        if request.headers.get("If-Match", '"0-1"') != '"0-1"':
            return _error(412, "PreconditionFailed")
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(size)})
        start, end = _range(request, size)
        data = content(start, end - start + 1)
        if self.damage_answers:
            self.damage_answers -= 1
            data = b"!" + data[1:]
        return web.Response(
            status=206 if "Range" in request.headers else 200, headers=headers, body=data
        )

    async def _body(self, request: web.Request) -> Written:
        digest, size, first = hashlib.md5(usedforsecurity=False), 0, True
        algorithm, crc, checksum = _asked(request), 0, 0
        async for chunk in request.content.iter_chunked(2**18):
            data = chunk
            if first and self.damage_bodies and request.method == "PUT":
                self.damage_bodies -= 1
                data = b"!" + chunk[1:]
            first = False
            digest.update(data)
            crc = zlib.crc32(data, crc)
            if algorithm is not None:
                checksum = algorithm.combine(checksum, algorithm.of(bytes(data)), len(data))
            size += len(data)
            if self.rate:
                await asyncio.sleep(len(data) / self.rate)
        etag = f'"{digest.hexdigest()}"'
        return Written(size, crc, etag, dict(request.headers), checksum=checksum)

    async def _write(self, request: web.Request) -> web.Response:
        written = await self._body(request)
        algorithm, headers = _asked(request), {"ETag": written.etag}
        if self.checksums and algorithm is not None:
            told = request.headers[_header(algorithm)]
            if told != algorithm.encode(written.checksum):
                return _error(400, "BadDigest")
            headers[_header(algorithm)] = told
        if "partNumber" in request.query:
            upload = self.uploads.get(request.query["uploadId"])
            if upload is None:
                return _error(404, "NoSuchUpload")
            upload[int(request.query["partNumber"])] = written
            return web.Response(headers=headers)
        if request.headers.get("If-None-Match") == "*" and request.path in self.objects:
            return _error(412, "PreconditionFailed")
        self.objects[request.path] = written
        return web.Response(headers=headers)

    async def _complete(self, request: web.Request, path: str, upload_id: str) -> web.Response:
        body = await request.read()
        upload = self.uploads.get(upload_id)
        if upload is None:
            return _error(404, "NoSuchUpload")
        if request.headers.get("If-None-Match") == "*" and path in self.objects:
            return _error(412, "PreconditionFailed")
        numbers = [
            int(each.text or "0")
            for each in ET.fromstring(body).iter()  # noqa: S314  # from the code under test
            if each.tag.endswith("PartNumber")
        ]
        parts = [upload[number] for number in numbers]
        size = sum(part.size for part in parts)
        crc, at = 0, 0
        for part in parts:
            crc, at = combined_crc32(crc, part.crc, part.size) if at else part.crc, at + part.size
        algorithm, more = _asked(request), {}
        if self.checksums and algorithm is not None:
            whole = algorithm.encode(algorithm.whole((p.checksum, p.size) for p in parts))
            if request.headers[_header(algorithm)] != whole:
                return _error(400, "BadDigest")
            more = {algorithm.parameter: whole}
        if int(request.headers.get("x-amz-mp-object-size", size)) != size:
            return _error(400, "InvalidRequest")
        digests = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
        whole = hashlib.md5(digests, usedforsecurity=False).hexdigest()
        etag = f'"{whole}-{len(parts)}"'
        self.objects[path] = Written(size, crc, etag, self.headers[upload_id], len(parts))
        del self.uploads[upload_id]
        return _xml("CompleteMultipartUploadResult", {}, ETag=etag, **more)


def _header(algorithm: Algorithm) -> str:
    return f"x-amz-checksum-{algorithm.name.lower()}"


def _asked(request: web.Request) -> Algorithm | None:
    """The checksum that a request carries."""
    asked = [each for each in algorithms().values() if _header(each) in request.headers]
    return asked[0] if asked else None


def _xml(name: str, headers: dict[str, str], **fields: str) -> web.Response:
    inside = "".join(f"<{key}>{value}</{key}>" for key, value in fields.items())
    text = f"<{name}>{inside}</{name}>"
    return web.Response(text=text, headers=headers, content_type="application/xml")


def _range(request: web.Request, size: int) -> tuple[int, int]:
    """First and last byte of what is asked for."""
    found = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
    return (int(found[1]), int(found[2])) if found else (0, size - 1)


def _error(status: int, code: str) -> web.Response:
    text = f"<Error><Code>{code}</Code><Message>by the test</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


@asynccontextmanager
async def fake_s3(tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeS3]:
    made = FakeS3()
    application = web.Application(client_max_size=2**40)
    application.router.add_route("*", "/{tail:.*}", made.handle)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    scheme, host = ("http", "127.0.0.1") if tls is None else ("https", "localhost")
    made.url = f"{scheme}://{host}:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()
