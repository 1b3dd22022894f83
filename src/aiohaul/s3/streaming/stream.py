"""The Stream class, a source of bytes that an application produces."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from typing import Any


class Stream:
    """A source of bytes that an application produces, copied like an object.

    aiohaul reads a stream once, from start to end, and not faster than the destinations write. A
    failed copy of a stream cannot be retried.

    Args:
        name: the file name at the destinations.
        chunks: the bytes of the stream, in chunks of any size.
        size: the total number of bytes; a stream with another number of bytes raises an error. If
            None, the parts of the stream grow, and a stream above about 100 GiB takes more memory
            than the limit.
        description: headers and metadata, as parameters of PutObject such as ``ContentType`` and
            ``Metadata``.
    """

    #: A stream has no subdirectory, as objects and files that were found at all depths have.
    folder = ""

    def __init__(
        self,
        name: str,
        chunks: AsyncIterable[bytes],
        *,
        size: int | None = None,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.chunks = chunks
        self.expected = size
        self.description = dict(description or {})
        self.size = size or 0

    @property
    def uri(self) -> str:
        """The name of the stream in errors and reports, such as ``stream today.csv``."""
        return f"stream {self.name}"

    def __getstate__(self) -> dict[str, Any]:
        if isinstance(self.chunks, AsyncGenerator):
            raise TypeError(
                f"pickling or deep-copying {self.uri} failed: its chunks come from an async"
                " generator, which runs only once and in one process. Create the Stream in the"
                " process that copies it"
            )
        return self.__dict__
