"""The addon that aiohaul replaces, in an environment of its own, and servers for both."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ADDON = "otf-addons-aws==26.18.0"
KEY, SECRET, REGION = "testing", "testing-secret", "eu-west-1"


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
    """The variables of a process that reaches a server, and nothing else of AWS."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {
        **kept,
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "OTF_NO_LOG": "1",
        "OTF_BATCH_POLL_INTERVAL": "0.2",
        "OTF_NO_THREAD_SLEEP": "1",
        **more,
    }


@contextmanager
def moto() -> Iterator[str]:
    """Moto as the tests have it, which keeps ACLs and metadata, in a process of its own."""
    server = Path(__file__).parents[2] / "tests" / "moto_server.py"
    with _started([sys.executable, str(server)], subprocess.DEVNULL) as output:
        yield f"http://127.0.0.1:{int(output.readline())}"


@contextmanager
def rclone(directory: Path) -> Iterator[str]:
    """``rclone serve s3`` on a directory: fast enough not to be what is measured."""
    program = shutil.which("rclone", path=sysconfig.get_path("scripts")) or "rclone"
    command = [
        *(program, "serve", "s3", "--addr", "127.0.0.1:0", "--auth-key", f"{KEY},{SECRET}"),
        *("--vfs-cache-mode", "off", "--dir-cache-time", "1h"),
        *("--config", str(directory / "no-rclone.conf"), str(directory)),
    ]
    with _started(command, subprocess.STDOUT) as output:
        found = None
        while found is None:
            line = output.readline()
            if not line:
                raise RuntimeError("rclone ended before it served")
            found = re.search(r"Starting s3 server on \[(http://[^/]+)/\]", line)
        # Nobody reads its log from here on; a full pipe would stop it.
        threading.Thread(target=output.read, daemon=True).start()
        yield found[1]


@contextmanager
def _started(command: list[str], errors: int) -> Iterator[IO[str]]:
    with subprocess.Popen(  # one of the two above
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
    ) as process:
        try:
            if process.stdout is not None:
                yield process.stdout
        finally:
            process.kill()
