"""Pure: what counts as new, and the cursor that remembers what was."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

from aiohaul.errors import CursorError
from aiohaul.s3.objects import S3Object

#: The form of a cursor; one of another form is refused.
_VERSION = 1
#: Bytes of a digest of a key, and of a version.
_DIGEST = 8
#: Bits that number looks.
_LOOK_BITS = 32
_LOOK = (1 << _LOOK_BITS) - 1
_PAIR = struct.Struct(">QQ")

Kind = Literal["appeared", "changed"]


@dataclass(frozen=True, slots=True)
class Change:
    """Something that a watch saw.

    Attributes:
        kind: ``appeared`` if there was no object of this key, ``changed`` if there was another
            version of it.
        object: the version that is there.
    """

    kind: Kind
    object: S3Object

    def as_dict(self) -> dict[str, Any]:
        """The change as JSON has it."""
        return {
            "kind": self.kind,
            "bucket": self.object.bucket,
            "key": self.object.key,
            "size": self.object.size,
            "etag": self.object.etag,
            "last_modified": self.object.last_modified.isoformat(),
            "storage_class": self.object.storage_class,
        }


class Seen:
    """Which versions of which objects were seen: 16 bytes of digests for each, no objects.

    A version is an ETag and a LastModified of whole seconds, which is all that both a listing
    and a HEAD tell. What a whole look does not show any more is forgotten; it is new when it
    comes back. An object that was modified before ``cutoff`` counts as seen and is not kept.

    Attributes:
        cutoff: seconds since 1970.
    """

    def __init__(self, versions: Iterable[tuple[int, int]] = (), cutoff: float = -math.inf) -> None:
        self.cutoff = cutoff
        #: Versions, each with the number of the look that has shown it last: one dictionary that
        #: stays. A new one for each look would stop the loop where it grows and where it goes.
        self._versions = {key: version << _LOOK_BITS for key, version in versions}
        self._look = 0
        self._shown = 0
        self._looking = False

    def begin(self) -> None:
        """A look starts."""
        self._look += 1
        self._shown = 0
        self._looking = True

    def end(self, cutoff: float) -> None:
        """The look has shown everything: forget what it did not.

        Args:
            cutoff: objects modified earlier than this count as seen from now on.
        """
        if self._looking and self._shown < len(self._versions):
            gone = [key for key, known in self._versions.items() if known & _LOOK != self._look]
            for key in gone:
                del self._versions[key]
        self._looking = False
        self.cutoff = cutoff

    def note(self, each: S3Object, cutoff: float = -math.inf) -> tuple[Kind, int | None] | None:
        """Note that a version is there.

        Args:
            each: the version.
            cutoff: do not keep it if it was modified earlier than this.

        Returns:
            None if it was seen before; else what it is, and the version that was seen before.
        """
        modified = each.last_modified.timestamp()
        if modified < self.cutoff:
            return None
        key, version = digest(each.key), version_of(each)
        known = self._versions.get(key)
        before = None if known is None else known >> _LOOK_BITS
        if self._looking and modified >= cutoff:
            self._shown += known is None or known & _LOOK != self._look
            self._versions[key] = version << _LOOK_BITS | self._look
        elif before != version:
            self._versions[key] = version << _LOOK_BITS
        if before == version:
            return None
        return ("appeared" if before is None else "changed", before)

    def __len__(self) -> int:
        return len(self._versions)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((key, known >> _LOOK_BITS) for key, known in self._versions.items())


def digest(text: str) -> int:
    """64 bits that stand for a text, in every process the same."""
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=_DIGEST).digest(), "big")


def version_of(each: S3Object) -> int:
    """64 bits that stand for this version of an object."""
    return digest(f"{each.etag} {math.floor(each.last_modified.timestamp())}")


def packed(pairs: Iterable[tuple[int, int]]) -> bytes:
    """Digests as a cursor has them."""
    return b"".join(_PAIR.pack(*pair) for pair in pairs)


def cursor(bucket: str, directory: str, cutoff: float, seen: bytes) -> dict[str, Any]:
    """What an application stores, as JSON has it.

    Args:
        bucket: the bucket that is watched.
        directory: its directory.
        cutoff: of what was seen.
        seen: packed digests.
    """
    return {
        "version": _VERSION,
        "bucket": bucket,
        "directory": directory,
        "cutoff": None if math.isinf(cutoff) else cutoff,
        "seen": base64.b64encode(seen).decode(),
    }


def restored(stored: Mapping[str, Any], bucket: str, directory: str) -> Seen:
    """What was seen when a cursor was stored.

    Raises:
        CursorError: it is no cursor, or one of another form, bucket or directory.
    """
    # What was stored may come from anywhere, whatever it is said to be.
    told: Any = stored
    if not isinstance(told, Mapping) or told.get("version") != _VERSION:
        raise CursorError(f"this is no cursor of version {_VERSION}: start without one")
    where = (stored.get("bucket"), stored.get("directory"))
    if where != (bucket, directory):
        whose = "/".join(each if isinstance(each, str) else "?" for each in where)
        raise CursorError(
            f"this cursor is of {whose}, not of {bucket}/{directory}: start without one"
        )
    try:
        data = base64.b64decode(stored["seen"], validate=True)
        return Seen(_PAIR.iter_unpack(data), _cutoff(stored["cutoff"]))
    except (KeyError, OverflowError, TypeError, ValueError, struct.error) as error:
        raise CursorError("this cursor is damaged: start without one") from error


def _cutoff(stored: Any) -> float:
    """Seconds since 1970.

    Raises:
        ValueError: everything, or nothing, would be older.
    """
    if stored is None:
        return -math.inf
    cutoff = float(stored)
    if not math.isfinite(cutoff):
        raise ValueError("it is no time")
    return cutoff
