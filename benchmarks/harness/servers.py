"""Servers that a benchmark starts, each in a process of its own, and ends."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from benchmarks.harness import surroundings
from benchmarks.harness.processes import python
from benchmarks.harness.surroundings import KEY, ROOT, SECRET

#: Each request waits here, and costs next to nothing meanwhile.
_LUA = 'core.register_action("wait", {{"http-req"}}, function() core.msleep({delay}) end)\n'
_HAPROXY = """
global
    lua-load {lua}
    maxconn 4000
defaults
    mode http
    timeout connect 10s
    timeout client 300s
    timeout server 300s
frontend near
    bind fd@{fd}
    http-request lua.wait
    default_backend far
backend far
    http-reuse always
    server far {address}
"""
_HAPROXY_TLS = """
global
    maxconn 4000
    tune.bufsize 65536
defaults
    mode tcp
    timeout connect 10s
    timeout client 300s
    timeout server 300s
frontend near
    bind fd@{fd} ssl crt {certificate}
    default_backend far
backend far
    server far {address}
"""


@dataclass(frozen=True)
class Served:
    """A server that runs: its address, its process, and the end of its standard input."""

    url: str
    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self.process.pid

    def finish(self) -> str:
        """End it by ending its standard input: what it has printed since its address."""
        return self.process.communicate(timeout=60)[0]


@contextmanager
def module(name: str, *arguments: str) -> Iterator[Served]:
    """A module of the benchmarks that prints its port."""
    with _started(python(name, *arguments)) as (process, output):
        yield Served(f"http://127.0.0.1:{int(output.readline())}", process)


@contextmanager
def script(path: Path) -> Iterator[Served]:
    """A server of the tests, that prints its port or its whole address."""
    with _started([python("")[0], str(path)]) as (process, output):
        line = output.readline().strip()
        yield Served(line if "//" in line else f"http://127.0.0.1:{int(line)}", process)


@contextmanager
def rclone(directory: Path) -> Iterator[Served]:
    """``rclone serve s3`` on a directory: a real server, and fast.

    It answers a few errors while many requests race to make one directory: make it first.
    """
    command = [
        *(surroundings.rclone(), "serve", "s3", "--addr", "127.0.0.1:0"),
        *("--auth-key", f"{KEY},{SECRET}", "--vfs-cache-mode", "off", "--dir-cache-time", "1h"),
        *("--config", str(directory / "no-rclone.conf"), str(directory)),
    ]
    with _started(command, subprocess.STDOUT) as (process, output):
        found = None
        while found is None:
            line = output.readline()
            if not line:
                raise RuntimeError("rclone ended before it served")
            found = re.search(r"Starting s3 server on \[(http://[^/]+)/\]", line)
        # Nobody reads its log from here on; a full pipe would stop it.
        threading.Thread(target=output.read, daemon=True).start()
        yield Served(found[1], process)


def haproxy() -> str | None:
    """The program, if it is installed."""
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def delayed(url: str, milliseconds: int) -> Iterator[Served]:
    """HAProxy before a server, which keeps every request for so long."""
    with tempfile.TemporaryDirectory() as folder:
        lua = Path(folder, "wait.lua")
        lua.write_text(_LUA.format(delay=milliseconds))
        with _proxied(url, folder, _HAPROXY, lua=lua) as (process, port):
            yield Served(f"http://127.0.0.1:{port}", process)


@contextmanager
def encrypted(url: str) -> Iterator[tuple[Served, Path]]:
    """HAProxy before a server, which speaks TLS, and the file of what certifies it."""
    import trustme  # noqa: PLC0415  # for those alone who encrypt

    authority = trustme.CA()
    with tempfile.TemporaryDirectory() as folder:
        trusted, certificate = Path(folder, "trusted.pem"), Path(folder, "certificate.pem")
        authority.cert_pem.write_to_path(trusted)
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(certificate)
        with _proxied(url, folder, _HAPROXY_TLS, certificate=certificate) as (process, port):
            yield Served(f"https://127.0.0.1:{port}", process), trusted


@contextmanager
def _proxied(
    url: str, folder: str, text: str, **more: Path
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    program = haproxy()
    if program is None:
        raise SystemExit("delays and TLS need HAProxy: apt-get install haproxy")
    settings = Path(folder, "haproxy.cfg")
    with socket.create_server(("127.0.0.1", 0)) as near:
        settings.write_text(text.format(fd=near.fileno(), address=urlsplit(url).netloc, **more))
        # It inherits the socket: requests wait in its queue until it is ready.
        command = [program, "-q", "-db", "-f", str(settings)]
        with _started(command, subprocess.DEVNULL, [near.fileno()]) as (process, _):
            yield process, near.getsockname()[1]


@contextmanager
def _started(
    command: Sequence[str], errors: int | None = None, files: Sequence[int] = ()
) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        pass_fds=files,
        cwd=ROOT,
    ) as process:
        try:
            if process.stdout is not None:
                yield process, process.stdout
        finally:
            process.kill()
