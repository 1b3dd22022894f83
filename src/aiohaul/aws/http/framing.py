"""Builds the heads of HTTP/1.1 requests, and parses the heads and chunks of responses.

This module supports the features that S3 and S3-compatible servers use. Parsing is strict where a
lenient parser could mix up two responses: contradicting lengths, folded lines, line breaks inside
of a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

#: The maximum size in bytes of the head of a response, and of a line between two chunks.
HEAD_LIMIT = 64 * 1024
_LINE_LIMIT = 4096
#: Default ports, which a Host header omits.
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_NO_CONTENT = frozenset({204, 304})
#: The maximum number of digits of a Content-Length.
_MAX_DIGITS = 18
_END = b"\r\n"
#: The name of a header, as RFC 9110 defines it.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")


class MalformedAnswerError(Exception):
    """The received bytes are not a response of HTTP/1.1."""


class Head(NamedTuple):
    """The head of a response.

    Attributes:
        status: the HTTP status.
        headers: the headers, with names in lower case. The last value of a repeated header counts,
            but all values of ``connection``.
        length: the size of the body in bytes; None if the body is chunked, or ends when the server
            closes the connection.
        chunked: True if the body is chunked.
        keep_alive: True if the connection may be reused.
    """

    status: int
    headers: dict[str, str]
    length: int | None
    chunked: bool
    keep_alive: bool


def request_head(
    method: str, url: str, headers: Mapping[str, str], *, absolute: bool = False
) -> bytes:
    """Build the head of a request.

    Args:
        method: the HTTP method.
        url: the URL, percent-encoded.
        headers: the headers, without ``Host`` and ``Accept``.
        absolute: True sends the whole URL, for a proxy.

    Raises:
        ValueError: the URL or a header contains characters that HTTP does not allow.
    """
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    # A line break would begin another header, and a space would end the path.
    text = url + "".join(headers.values())
    if not (slash and text.isascii() and text.isprintable()) or " " in url or "@" in host:
        raise ValueError("the URL or a header contains characters that HTTP does not allow")
    host = host.lower().removesuffix(_DEFAULT_PORTS.get(scheme.lower(), ""))
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    target = f"{scheme}://{host}/{path}" if absolute else f"/{path}"
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}Accept: */*\r\n\r\n".encode(
        "ascii"
    )


def read_head(data: bytes, *, bodiless: bool) -> Head:
    """Parse the head of a response.

    Args:
        data: the head, without the empty line at the end.
        bodiless: True if the request was a HEAD, so that the response has no body.

    Raises:
        MalformedAnswerError: the data is not the head of an HTTP/1.1 response.
    """
    try:
        first, *lines = data.decode().split("\r\n")
    except UnicodeDecodeError as error:
        raise MalformedAnswerError("its head is not UTF-8") from error
    version, status = _status(first)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        value = value.strip(" \t")
        if (
            not colon
            or not (name.isascii() and name.replace("-", "").isalnum())
            or not value.isprintable()
        ):
            _check_lenient(line, name, colon, value)
        name = name.lower()
        if name in headers:
            value = _merged(name, headers[name], value)
        headers[name] = value
    keep_alive = version == "1.1" and "close" not in headers.get("connection", "").lower()
    if bodiless or status in _NO_CONTENT or status < 200:  # noqa: PLR2004  # interim answers
        return Head(status, headers, 0, chunked=False, keep_alive=keep_alive)
    encoding = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if encoding is not None:
        if encoding.lower() != "chunked":
            raise MalformedAnswerError(f"its transfer encoding is {encoding!r}")
        # If the response has a length too, a proxy may have framed the body in another way.
        return Head(status, headers, None, chunked=True, keep_alive=keep_alive and length is None)
    if length is None:
        return Head(status, headers, None, chunked=False, keep_alive=False)
    return Head(status, headers, _length(length), chunked=False, keep_alive=keep_alive)


def _status(line: str) -> tuple[str, int]:
    protocol, _, rest = line.partition(" ")
    name, _, version = protocol.partition("/")
    status = rest[:3]
    if (
        name != "HTTP"
        or version not in ("1.1", "1.0")
        or not (status.isascii() and status.isdigit() and len(status) == 3)  # noqa: PLR2004
        or rest[3:4] not in ("", " ")
    ):
        raise MalformedAnswerError("it does not begin with a status line")
    return version, int(status)


def _check_lenient(line: str, name: str, colon: str, value: str) -> None:
    """Check a header that is not plain. Any alphabet is accepted, as in botocore, but no breaks."""
    if not colon or not _NAME.fullmatch(name):
        raise MalformedAnswerError(f"a line is not a header: {line[:40]!r}")
    if any(character in value for character in "\r\n\0"):
        raise MalformedAnswerError(f"the header {name[:40]!r} contains a line break")


def _merged(name: str, before: str, value: str) -> str:
    """Return the value of a repeated header."""
    if name in ("content-length", "transfer-encoding"):
        raise MalformedAnswerError(f"{name} is given twice")
    return f"{before}, {value}" if name == "connection" else value


def _length(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS):
        raise MalformedAnswerError(f"its Content-Length is {value[:40]!r}")
    return int(value)


class Chunks:
    """Decodes a chunked body.

    Attributes:
        ended: True if the body is complete.
        size: the number of decoded bytes so far.
    """

    def __init__(self) -> None:
        self.ended = False
        self.size = 0
        self._pieces: list[bytes] = []
        self._unread = bytearray()
        self._chunk_remaining = 0
        self._last_chunk = False
        self._trailers = 0

    @property
    def body(self) -> bytes:
        """The decoded bytes so far."""
        return b"".join(self._pieces)

    @property
    def has_trailing_data(self) -> bool:
        """True if bytes arrived after the end of the body."""
        return bool(self._unread)

    def feed(self, data: bytes) -> None:
        """Decode more bytes.

        Raises:
            MalformedAnswerError: the bytes are not valid chunks.
        """
        self._unread += data
        while not self.ended and self._step():
            pass

    def _step(self) -> bool:
        """Decode a chunk, a part of a chunk, or a line. Return False if more bytes are needed."""
        unread = self._unread
        if self._chunk_remaining > 0:
            piece = bytes(unread[: self._chunk_remaining])
            self._pieces.append(piece)
            self.size += len(piece)
            del unread[: len(piece)]
            self._chunk_remaining -= len(piece)
            if self._chunk_remaining == 0:
                self._chunk_remaining = -len(_END)
            return bool(unread)
        if self._chunk_remaining < 0:
            if len(unread) < len(_END):
                return False
            if not unread.startswith(_END):
                raise MalformedAnswerError("a chunk is longer than its stated size")
            del unread[: len(_END)]
            self._chunk_remaining = 0
        end = unread.find(_END, 0, _LINE_LIMIT)
        if end < 0:
            if len(unread) >= _LINE_LIMIT:
                raise MalformedAnswerError("a line between chunks is too long")
            return False
        line = bytes(unread[:end])
        del unread[: end + len(_END)]
        self._line(line)
        return True

    def _line(self, line: bytes) -> None:
        if not self._last_chunk:
            self._chunk_remaining = _chunk_size(line)
            self._last_chunk = self._chunk_remaining == 0
        elif line:  # a trailer, which is ignored
            self._trailers += len(line)
            if self._trailers > HEAD_LIMIT:
                raise MalformedAnswerError("its trailers are too long")
        else:
            self.ended = True


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip(b" \t")
    if not _SIZE.fullmatch(digits):
        raise MalformedAnswerError(f"a chunk's size is {line[:40]!r}")
    return int(digits, 16)
