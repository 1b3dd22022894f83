"""The version of this package."""

from __future__ import annotations

#: The version, from which the package's metadata is built. Reading the metadata takes 20 ms.
VERSION = "0.1.0"
