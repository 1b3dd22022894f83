"""The locations on a command line: objects, files, directories, standard input and output."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass

from aiohaul.errors import PlanError
from aiohaul.s3.keys import checked_directory
from aiohaul.s3.objects import uri

#: Standard input as a source, standard output as a destination.
STANDARD = "-"
_S3 = re.compile(r"s3://([^/\s]+)(?:/(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Place:
    """A location on a command line.

    Attributes:
        bucket: the bucket; None for a local path, and for standard input or output.
        path: the key or the local path, without "/" at the end; ``-`` for standard input or output.
        is_directory: True if the text ends with "/", so that it is a directory.
    """

    bucket: str | None
    path: str
    is_directory: bool

    @property
    def is_standard(self) -> bool:
        """True for standard input or output."""
        return self.bucket is None and self.path == STANDARD

    @property
    def text(self) -> str:
        """The location as messages name it."""
        slash = "/" if self.is_directory and self.path not in {"", "/"} else ""
        return f"{self.path if self.bucket is None else uri(self.bucket, self.path)}{slash}"


def place(text: str) -> Place:
    """Parse a location: ``s3://bucket/key``, a local path, or ``-``.

    Raises:
        argparse.ArgumentTypeError: the text is empty, or is not a valid location.
    """
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not a path or s3://bucket/key")
    if text.startswith("s3:"):
        return s3_place(text)
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be s3://bucket/key, a local path, or - for standard input or output"
        )
    return Place(None, text if text == "/" else text.rstrip("/"), text.endswith("/"))


def s3_place(text: str, form: str = "s3://bucket/key") -> Place:
    """Parse ``s3://bucket/key``.

    Args:
        text: the text.
        form: the form in the message.

    Raises:
        argparse.ArgumentTypeError: the text has another form.
    """
    parts = _S3.fullmatch(text)
    if parts is None:
        raise argparse.ArgumentTypeError(f"{text!r} must have the form {form}")
    key = (parts[2] or "").removesuffix("/")
    try:
        checked_directory(key)
    except PlanError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error
    return Place(parts[1], key, not parts[2] or parts[2].endswith("/"))
