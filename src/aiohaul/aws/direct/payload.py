"""The body of requests that are sent more than once: its SHA-256 is computed at most once."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import TypeVar

from aiohaul.concurrency import Lock
from aiohaul.threads import run_in_thread

T = TypeVar("T")
#: What a large answer is read into is a bytearray, which nobody changes from then on.
Bytes = bytes | bytearray

#: Up to this many bytes are hashed on the event loop, more of them in a thread.
HASH_INLINE = 256 * 1024


class Payload:
    """Bytes that go to several places, or to one of them again.

    Without TLS each request is signed with the SHA-256 of its body, which costs more than to
    send it: whoever sends the same bytes again has it from here.

    Args:
        data: what is sent; never changed.
    """

    __slots__ = ("_lock", "_sha256", "data")

    def __init__(self, data: Bytes) -> None:
        self.data = data
        self._lock = Lock()
        self._sha256: str | None = None

    async def sha256(self) -> str:
        """Its SHA-256 in hexadecimal, computed when it is first asked for."""
        async with self._lock:
            if self._sha256 is None:
                self._sha256 = await computed(hexdigest, self.data)
            return self._sha256


async def computed(function: Callable[[Bytes], T], data: Bytes) -> T:
    """``function(data)``, in a thread if it may take long."""
    if len(data) <= HASH_INLINE:
        return function(data)
    return await run_in_thread(function, data, abandon_on_cancel=True)


def hexdigest(data: Bytes) -> str:
    """The SHA-256 of some bytes, in hexadecimal."""
    return sha256(data).hexdigest()
