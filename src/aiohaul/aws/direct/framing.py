"""Pure: HTTP/1.1 as it is written and read, no more of it than S3 and its kind speak.

Answers are read strictly where leniency would let one answer be taken for another: lengths that
contradict each other, lines that are folded, ends of lines inside of one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

#: The most bytes of an answer's head, and of the lines between the chunks of a body.
HEAD_LIMIT = 64 * 1024
_LINE_LIMIT = 4096
#: The ports that a Host header leaves out.
_PORTS = {"http": ":80", "https": ":443"}
_NO_CONTENT = frozenset({204, 304})
#: No body has more bytes than this many digits can say.
_DIGITS = 18
_END = b"\r\n"
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")


class MalformedAnswerError(Exception):
    """What came is no answer of HTTP/1.1."""


class Head(NamedTuple):
    """What comes before the body of an answer.

    Attributes:
        status: the HTTP status.
        headers: with names in lower case; of several with one name, the last (of ``connection``
            all).
        length: bytes of the body; None if it says so itself.
        chunked: the body comes in chunks.
        keeps: the connection may be used again.
    """

    status: int
    headers: dict[str, str]
    length: int | None
    chunked: bool
    keeps: bool


def request_head(method: str, url: str, headers: Mapping[str, str]) -> bytes:
    """A request up to its body.

    Raises:
        ValueError: there is something in it that a head cannot carry.
    """
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    # An end of a line would begin another header, and a space end the path.
    told = url + "".join(headers.values())
    if not (slash and told.isascii() and told.isprintable()) or " " in url or "@" in host:
        raise ValueError("a request cannot carry such a URL or header")
    host = host.lower().removesuffix(_PORTS.get(scheme.lower(), ""))
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return f"{method} /{path} HTTP/1.1\r\nHost: {host}\r\n{lines}Accept: */*\r\n\r\n".encode(
        "ascii"
    )


def read_head(data: bytes, *, bodiless: bool) -> Head:
    """Read the head of an answer.

    Args:
        data: from its first byte to before the empty line.
        bodiless: what was asked for has no body in its answer (HEAD).

    Raises:
        MalformedAnswerError: it is none.
    """
    try:
        first, *lines = data.decode().split("\r\n")
    except UnicodeDecodeError as error:
        raise MalformedAnswerError("its head is no UTF-8") from error
    version, status = _status(first)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        value = value.strip(" \t")
        if not colon or not name or name.strip() != name or not value.isprintable():
            _check_lenient(line, name, colon, value)
        name = name.lower()
        if name in headers:
            value = _once_more(name, headers[name], value)
        headers[name] = value
    keeps = version == "1.1" and "close" not in headers.get("connection", "").lower()
    if bodiless or status in _NO_CONTENT or status < 200:  # noqa: PLR2004  # interim answers
        return Head(status, headers, 0, chunked=False, keeps=keeps)
    encoding = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if encoding is not None:
        if encoding.lower() != "chunked":
            raise MalformedAnswerError(f"its transfer encoding is {encoding!r}")
        # With a length as well somebody on the way may have read it otherwise.
        return Head(status, headers, None, chunked=True, keeps=keeps and length is None)
    if length is None:
        return Head(status, headers, None, chunked=False, keeps=False)
    return Head(status, headers, _length(length), chunked=False, keeps=keeps)


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
        raise MalformedAnswerError("it does not begin with a status")
    return version, int(status)


def _check_lenient(line: str, name: str, colon: str, value: str) -> None:
    """Let values be what botocore would hand on too, in any alphabet, but for ends of lines."""
    if not colon or not name or name.strip() != name:
        raise MalformedAnswerError(f"it has a line that is no header: {line[:40]!r}")
    if any(character in value for character in "\r\n\0"):
        raise MalformedAnswerError(f"its header {name[:40]!r} has an end of a line in it")


def _once_more(name: str, before: str, value: str) -> str:
    """What a header says that comes again."""
    if name in ("content-length", "transfer-encoding"):
        raise MalformedAnswerError(f"it has {name} twice")
    return f"{before}, {value}" if name == "connection" else value


def _length(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= _DIGITS):
        raise MalformedAnswerError(f"its length is {value[:40]!r}")
    return int(value)


class Chunks:
    """Puts a body together that comes in chunks.

    Attributes:
        ended: all of it is there.
        size: bytes of it that are there.
    """

    def __init__(self) -> None:
        self.ended = False
        self.size = 0
        self._pieces: list[bytes] = []
        self._unread = bytearray()
        self._left = 0
        self._last = False
        self._trailers = 0

    @property
    def body(self) -> bytes:
        """What has come of it."""
        return b"".join(self._pieces)

    @property
    def rest(self) -> bool:
        """True if something came behind its end."""
        return bool(self._unread)

    def feed(self, data: bytes) -> None:
        """Take what has come.

        Raises:
            MalformedAnswerError: these are no chunks.
        """
        self._unread += data
        while not self.ended and self._step():
            pass

    def _step(self) -> bool:
        """Read a chunk, a part of one, or a line: False if there is nothing to read."""
        unread = self._unread
        if self._left > 0:
            piece = bytes(unread[: self._left])
            self._pieces.append(piece)
            self.size += len(piece)
            del unread[: len(piece)]
            self._left -= len(piece)
            if self._left == 0:
                self._left = -len(_END)
            return bool(unread)
        if self._left < 0:
            if len(unread) < len(_END):
                return False
            if not unread.startswith(_END):
                raise MalformedAnswerError("a chunk is longer than it says")
            del unread[: len(_END)]
            self._left = 0
        end = unread.find(_END, 0, _LINE_LIMIT)
        if end < 0:
            if len(unread) >= _LINE_LIMIT:
                raise MalformedAnswerError("a line between chunks has no end")
            return False
        line = bytes(unread[:end])
        del unread[: end + len(_END)]
        self._line(line)
        return True

    def _line(self, line: bytes) -> None:
        if not self._last:
            self._left = _chunk_size(line)
            self._last = self._left == 0
        elif line:  # a trailer: nothing that S3 says there is needed
            self._trailers += len(line)
            if self._trailers > HEAD_LIMIT:
                raise MalformedAnswerError("its trailers have no end")
        else:
            self.ended = True


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip(b" \t")
    if not _SIZE.fullmatch(digits):
        raise MalformedAnswerError(f"a chunk's size is {line[:40]!r}")
    return int(digits, 16)
