"""The Payload class, a request body that is sent several times and hashed once."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import TypeVar

from aiohaul.concurrency import Lock
from aiohaul.threads import run_in_thread

T = TypeVar("T")
#: Bytes of a body. Large responses are bytearrays, which are not modified after they are complete.
Bytes = bytes | bytearray

#: The size in bytes above which data is hashed in a thread.
HASH_INLINE = 256 * 1024


class Payload:
    """A request body that is sent to several destinations, or several times to one.

    Without TLS, each request is signed with the SHA-256 of the body. Computing this hash costs more
    CPU time than sending the body, so it is computed once for all requests.

    Args:
        data: the bytes, which must not be modified.
    """

    __slots__ = ("_lock", "_sha256", "data")

    def __init__(self, data: Bytes) -> None:
        self.data = data
        self._lock = Lock()
        self._sha256: str | None = None

    async def sha256(self) -> str:
        """Return the SHA-256 in hexadecimal. The first call computes the hash."""
        async with self._lock:
            if self._sha256 is None:
                self._sha256 = await computed(hexdigest, self.data)
            return self._sha256


async def computed(function: Callable[[Bytes], T], data: Bytes) -> T:
    """Return ``function(data)``, computed in a thread if the data is large."""
    if len(data) <= HASH_INLINE:
        return function(data)
    return await run_in_thread(function, data, abandon_on_cancel=True)


def hexdigest(data: Bytes) -> str:
    """Return the SHA-256 of the data in hexadecimal."""
    return sha256(data).hexdigest()
