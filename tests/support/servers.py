"""S3 servers that nobody here wrote, each in a process of its own on a free port of 127.0.0.1."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

KEY = "testing"
SECRET = "testing-secret"
REGION = "eu-west-1"


@contextmanager
def moto() -> Iterator[str]:
    command = [sys.executable, str(Path(__file__).with_name("moto_server.py"))]
    with _process(command, log=subprocess.DEVNULL) as process:
        yield f"http://127.0.0.1:{int(_line(process.stdout))}"


@contextmanager
def rclone(directory: Path) -> Iterator[str]:
    """`rclone serve s3` on a directory.

    Its directory cache stays on: with `--dir-cache-time 0` it locks itself up under concurrency.
    """
    command = [
        script("rclone"),
        *("serve", "s3", "--addr", "127.0.0.1:0", "--auth-key", f"{KEY},{SECRET}"),
        *("--vfs-cache-mode", "off", "--dir-cache-time", "1h"),
        *("--config", str(directory / "no-rclone.conf"), str(directory)),
    ]
    with _process(command, log=subprocess.STDOUT) as process:
        found = None
        while found is None:
            found = re.search(r"Starting s3 server on \[(http://[^/]+)/\]", _line(process.stdout))
        # Nobody reads its log from here on; a full pipe would stop it.
        drain = threading.Thread(target=_drain, args=(process.stdout,), daemon=True)
        drain.start()
        yield found[1]


@contextmanager
def serverless(directory: Path) -> Iterator[str]:
    """serverless-offline, installed in a directory with its functions: the address of Invoke."""
    node = shutil.which("node")
    assert node, "node is not installed"
    script = directory / "node_modules" / "serverless" / "bin" / "serverless.js"
    quiet = ("env", "SLS_TELEMETRY_DISABLED=1", "SLS_NOTIFICATIONS_MODE=off")
    command = [*quiet, node, str(script), "offline", "start"]
    with _process(command, log=subprocess.STDOUT, directory=directory) as process:
        found = None
        while found is None:
            found = re.search(r"for lambda\] listening on (http://\S+)", _line(process.stdout))
        drain = threading.Thread(target=_drain, args=(process.stdout,), daemon=True)
        drain.start()
        yield found[1]


def script(name: str) -> str:
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    assert found, f"{name} is not installed"
    return found


def _line(stream: IO[str] | None) -> str:
    assert stream is not None
    line = stream.readline()
    assert line, "the server ended before it had started"
    return line


def _drain(stream: IO[str]) -> None:
    for _ in stream:
        pass


@contextmanager
def _process(
    command: list[str], *, log: int, directory: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        cwd=directory,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
