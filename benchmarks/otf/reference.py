"""The addon that aiohaul replaces, in an environment of its own, and servers for both."""

from __future__ import annotations

import os
import subprocess
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import servers, surroundings
from benchmarks.harness.surroundings import KEY, REGION, SECRET

__all__ = ["KEY", "REGION", "SECRET", "environment", "moto", "rclone", "reference_python"]

ADDON = "otf-addons-aws==26.18.0"


def reference_python() -> Path:
    """The Python of an environment that holds the addon, from PyPI; made at the first use."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    home = cache / "aiohaul-benchmarks" / ADDON.replace("==", "-")  # OTF trips over "="
    python = home / "bin" / "python"
    done = home / "complete"
    if not done.exists():
        venv.create(home, clear=True, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", ADDON]
        subprocess.run(install, check=True)  # pip
        done.touch()
    return python


def environment(url: str, **more: str) -> dict[str, str]:
    """The variables of a process of the framework that reaches a server."""
    return surroundings.environment(
        AWS_ENDPOINT_URL=url,
        OTF_NO_LOG="1",
        OTF_BATCH_POLL_INTERVAL="0.2",
        OTF_NO_THREAD_SLEEP="1",
        **more,
    )


@contextmanager
def moto() -> Iterator[str]:
    """Moto as the tests have it, which keeps ACLs and metadata, in a process of its own."""
    with servers.script("tests.support.moto_server") as served:
        yield served.url


@contextmanager
def rclone(directory: Path) -> Iterator[str]:
    """``rclone serve s3`` on a directory: fast enough not to be what is measured."""
    with servers.rclone(directory) as served:
        yield served.url
