"""A source that an application produces."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from typing import Any


class Stream:
    """Bytes that an application produces, to be copied like an object: once, from start to end.

    It is read as fast as its destinations take it, and no faster. What fails cannot be tried
    again from the source, for there is none.

    Args:
        name: the file name under which it lands at the destinations.
        chunks: its bytes, in pieces of any size.
        size: how many they are. If given, they have to be that many; without it, objects beyond
            some 100 GiB take more memory than a transfer's, for their parts grow.
        description: content type, metadata and the like, as parameters of PutObject
            (``ContentType``, ``Metadata``, …).
    """

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
        """How errors and reports name it."""
        return f"stream {self.name}"

    def __getstate__(self) -> dict[str, Any]:
        if isinstance(self.chunks, AsyncGenerator):
            raise TypeError(
                f"{self.uri} cannot be copied or pickled: its chunks come from an async generator,"
                " which runs in one process and once. Make the Stream where it is to be read"
            )
        return self.__dict__
