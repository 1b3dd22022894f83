"""A server that answers S3 requests from memory, at next to no cost: in a process of its own.

It prints the port that it listens on. What it answers is what S3 answers, always the same.
"""

# a script beside its benchmark, which reads what it prints

from __future__ import annotations

import asyncio
import sys

_COPY = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b'<CopyObjectResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<LastModified>2026-01-31T10:20:30.000Z</LastModified>"
    b"<ETag>&quot;0123456789abcdef0123456789abcdef&quot;</ETag></CopyObjectResult>"
)
_COMMON = (
    b"x-amz-id-2: 4PqkWVxyzKaYcJZ0Qx8yTgCz0rVhY9Wn1oHqg3g6m2hD2kq9uJ5tq0o8eF6s4d3a\r\n"
    b"x-amz-request-id: 0123456789ABCDEF\r\ndate: Sat, 31 Jan 2026 10:20:30 GMT\r\n"
    b"server: AmazonS3\r\n"
)
_OBJECT = (
    b"last-modified: Sat, 31 Jan 2026 10:20:30 GMT\r\n"
    b'etag: "0123456789abcdef0123456789abcdef"\r\naccept-ranges: bytes\r\n'
    b"x-amz-server-side-encryption: AES256\r\ncontent-type: binary/octet-stream\r\n"
)


def _listing(keys: int) -> bytes:
    entries = "".join(
        f"<Contents><Key>incoming/2026/01/31/report-{number:06}.csv</Key>"
        "<LastModified>2026-01-31T10:20:30.000Z</LastModified>"
        f"<ETag>&quot;{number:032x}&quot;</ETag><ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm>"
        "<ChecksumType>FULL_OBJECT</ChecksumType>"
        f"<Size>{number}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for number in range(keys)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>'
        f"<Prefix></Prefix><KeyCount>{keys}</KeyCount><MaxKeys>1000</MaxKeys>"
        "<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
        f"{entries}</ListBucketResult>"
    ).encode()


def _answer(headers: bytes, body: bytes) -> bytes:
    length = b"content-length: %d\r\n\r\n" % len(body)
    return b"HTTP/1.1 200 OK\r\n" + _COMMON + headers + length + body


HEAD = b"HTTP/1.1 200 OK\r\n" + _COMMON + _OBJECT + b"content-length: 1024\r\n\r\n"
PUT = _answer(b'etag: "0123456789abcdef0123456789abcdef"\r\n', b"")
COPY = _answer(b"content-type: application/xml\r\n", _COPY)
LIST = _answer(b"content-type: application/xml\r\n", _listing(1000))


class Server(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Get ready."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._data = b""
        self._told_to_go_on = False

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            start = head.find(b"content-length: ")
            length = int(head[start + 16 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
            if len(self._data) < end + 4 + length:
                if b"expect: 100" in head and not self._told_to_go_on:
                    self._told_to_go_on = True
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            self._data = self._data[end + 4 + length :]
            self._told_to_go_on = False
            self._transport.write(_reply(head))


def _reply(head: bytes) -> bytes:
    if head.startswith(b"head"):
        return HEAD
    if head.startswith(b"get"):
        return LIST
    return COPY if b"x-amz-copy-source" in head else PUT


async def main() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
