"""Buffers into which asyncio reads, shared by all connections of an event loop."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

#: The size in bytes of a buffer.
_SIZE = 256 * 1024

_plain: WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = WeakKeyDictionary()
_encrypted: WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = WeakKeyDictionary()


def read_buffer(loop: asyncio.AbstractEventLoop) -> memoryview:
    """Return the buffer for bytes that a connection processes as soon as they have arrived.

    asyncio asks a protocol for a buffer, reads into it, and tells the protocol, without running
    anything else in between.
    """
    return _buffer(_plain, loop)


def encrypted_buffer(loop: asyncio.AbstractEventLoop) -> memoryview:
    """Return the buffer for encrypted bytes, which are decrypted into another buffer."""
    return _buffer(_encrypted, loop)


def _buffer(
    buffers: WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview],
    loop: asyncio.AbstractEventLoop,
) -> memoryview:
    found = buffers.get(loop)
    if found is None:
        found = buffers[loop] = memoryview(bytearray(_SIZE))
    return found
