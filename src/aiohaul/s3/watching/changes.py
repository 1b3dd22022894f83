"""Finds new and changed objects, and stores the known objects in a cursor."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, TypedDict

from aiohaul.errors import CursorError
from aiohaul.s3.objects import S3Object, uri

#: The version of the format of a cursor. ``restore`` rejects other versions.
_VERSION = 1
#: Bytes of a digest. A key has one digest, and a version of an object has another.
_DIGEST = 8
#: Bits that hold the number of a poll, the lowest bits of a value in ``SeenVersions``.
_POLL_BITS = 32
_POLL_MASK = (1 << _POLL_BITS) - 1
_PAIR = struct.Struct(">QQ")

Kind = Literal["appeared", "changed"]


class Cursor(TypedDict):
    """A cursor of a watch, as JSON.

    Attributes:
        version: the version of the cursor's format.
        bucket: the bucket that is watched.
        directory: the directory that is watched.
        cutoff: seconds since 1970. An object that was modified before this time counts as seen.
            None if the watch has no horizon.
        seen: the digests of the objects that were seen, in base64: 8 bytes for the key and 8
            bytes for the version of each object.
    """

    version: int
    bucket: str
    directory: str
    cutoff: float | None
    seen: str


@dataclass(frozen=True, slots=True)
class Change:
    """A new or changed object that a watch found.

    Attributes:
        kind: ``appeared`` if the key is new, ``changed`` if a known key has another version.
        object: the version that the watch found.
    """

    kind: Kind
    object: S3Object

    def as_dict(self) -> dict[str, str | int]:
        """Return the change as a JSON object."""
        return {
            "kind": self.kind,
            "bucket": self.object.bucket,
            "key": self.object.key,
            "size": self.object.size,
            "etag": self.object.etag,
            "last_modified": self.object.last_modified.isoformat(),
            "storage_class": self.object.storage_class,
        }


class SeenVersions:
    """The objects that a watch has seen: a digest of the key and one of the version of each.

    A digest has 8 bytes. A version is the ETag with LastModified in whole seconds, because
    ListObjectsV2 and HeadObject both return these two. An object that is missing in a complete
    poll is forgotten; if the object exists again later, it is new. An object that was modified
    before ``cutoff`` counts as seen, and is not stored.

    Attributes:
        cutoff: seconds since 1970.
    """

    def __init__(self, versions: Iterable[tuple[int, int]] = (), cutoff: float = -math.inf) -> None:
        self.cutoff = cutoff
        #: For each digest of a key: the digest of the version, and the number of the last poll
        #: that found the key. All polls use one dictionary, because growing and freeing a new
        #: dictionary for each poll would block the event loop.
        self._versions = {key: version << _POLL_BITS for key, version in versions}
        self._poll = 0
        self._recorded = 0
        self._in_poll = False

    def start(self) -> None:
        """Start a poll."""
        self._poll += 1
        self._recorded = 0
        self._in_poll = True

    def end(self, cutoff: float) -> None:
        """End a complete poll, and forget the objects that the poll did not find.

        Args:
            cutoff: seconds since 1970. From now on, objects that were modified before this time
                count as seen.
        """
        if self._in_poll and self._recorded < len(self._versions):
            gone = [
                key for key, known in self._versions.items() if known & _POLL_MASK != self._poll
            ]
            for key in gone:
                del self._versions[key]
        self._in_poll = False
        self.cutoff = cutoff

    def record(self, each: S3Object, cutoff: float = -math.inf) -> tuple[Kind, int | None] | None:
        """Record that a version of an object exists.

        Args:
            each: the version.
            cutoff: seconds since 1970. A version that was modified before this time is forgotten
                at the end of the poll.

        Returns:
            None if this version was seen before. Otherwise the kind of change, and the digest of
            the version that was seen before; None for a new key.
        """
        modified = each.last_modified.timestamp()
        if modified < self.cutoff:
            return None
        key, version = digest(each.key), version_of(each)
        known = self._versions.get(key)
        before = None if known is None else known >> _POLL_BITS
        if self._in_poll and modified >= cutoff:
            self._recorded += known is None or known & _POLL_MASK != self._poll
            self._versions[key] = version << _POLL_BITS | self._poll
        elif before != version:
            self._versions[key] = version << _POLL_BITS
        if before == version:
            return None
        return ("appeared" if before is None else "changed", before)

    def __len__(self) -> int:
        return len(self._versions)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((key, known >> _POLL_BITS) for key, known in self._versions.items())


def digest(text: str) -> int:
    """Return the digest of a text as an integer of 64 bits, which is equal in every process."""
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=_DIGEST).digest(), "big")


def version_of(each: S3Object) -> int:
    """Return the digest of a version of an object, from its ETag and LastModified."""
    return digest(f"{each.etag} {math.floor(each.last_modified.timestamp())}")


def pack(pairs: Iterable[tuple[int, int]]) -> bytes:
    """Convert digests of keys and versions to the bytes that a cursor contains."""
    return b"".join(_PAIR.pack(*pair) for pair in pairs)


def cursor(bucket: str, directory: str, cutoff: float, seen: bytes) -> Cursor:
    """Return a cursor as a JSON object, which the application stores.

    Args:
        bucket: the bucket that is watched.
        directory: the directory that is watched.
        cutoff: seconds since 1970. Objects that were modified before this time count as seen.
        seen: the digests, as ``pack`` returns them.
    """
    return {
        "version": _VERSION,
        "bucket": bucket,
        "directory": directory,
        "cutoff": None if math.isinf(cutoff) else cutoff,
        "seen": base64.b64encode(seen).decode(),
    }


def restore(stored: Mapping[str, object], bucket: str, directory: str) -> SeenVersions:
    """Return the versions that a stored cursor contains.

    Raises:
        CursorError: ``stored`` is not a cursor, or has another format, bucket or directory.
    """
    # The application reads the cursor from a file or a database, so the type may be wrong.
    value: object = stored
    if not isinstance(value, Mapping) or value.get("version") != _VERSION:
        raise CursorError(
            f"starting the watch of {uri(bucket, directory)} failed: since= is not a cursor of"
            f" version {_VERSION}. Start without since=: all objects count as new then"
        )
    location = (stored.get("bucket"), stored.get("directory"))
    if location != (bucket, directory):
        other = "/".join(each if isinstance(each, str) else "?" for each in location)
        raise CursorError(
            f"starting the watch of {uri(bucket, directory)} failed: since= is a cursor of"
            f" s3://{other}. Use the cursor of this directory, or start without since="
        )
    try:
        data = base64.b64decode(_string(stored["seen"]), validate=True)
        return SeenVersions(_PAIR.iter_unpack(data), _parsed_cutoff(stored["cutoff"]))
    except (KeyError, OverflowError, TypeError, ValueError, struct.error) as error:
        raise CursorError(
            f"starting the watch of {uri(bucket, directory)} failed: the cursor in since= is"
            " damaged. Start without since=: all objects count as new then"
        ) from error


def _string(stored: object) -> str:
    """Return a stored value if it is a string.

    Raises:
        TypeError: the value is not a string.
    """
    if not isinstance(stored, str):
        raise TypeError(f"seen must be a string, not {type(stored).__name__}")
    return stored


def _parsed_cutoff(stored: object) -> float:
    """Return a stored cutoff in seconds since 1970; minus infinity for None.

    Raises:
        TypeError: the cutoff is not a number.
        ValueError: the cutoff is not finite.
    """
    if stored is None:
        return -math.inf
    if not isinstance(stored, int | float):
        raise TypeError(f"cutoff must be a number, not {type(stored).__name__}")
    cutoff = float(stored)
    if not math.isfinite(cutoff):
        raise ValueError(f"cutoff must be a finite number, not {cutoff}")
    return cutoff
