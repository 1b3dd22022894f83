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
    maxconn 4000
    tune.bufsize 65536
{globals}
defaults
    mode {mode}
    timeout connect 10s
    timeout client 300s
    timeout server 300s
frontend near
    bind fd@{fd} {tls}
{rules}
    default_backend far
backend far
    server far {address}
"""


@dataclass(frozen=True)
class Served:
    """A server that runs.

    Attributes:
        url: its address.
        process: it, with the end of its standard input.
        trusted: the file of what certifies it, if it speaks TLS.
    """

    url: str
    process: subprocess.Popen[str]
    trusted: Path | None = None

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a process that reaches it."""
        if self.trusted is None:
            return surroundings.environment()
        names = ("AWS_CA_BUNDLE", "SSL_CERT_FILE")  # botocore's, and everybody else's
        return surroundings.environment(**dict.fromkeys(names, str(self.trusted)))

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
def script(name: str) -> Iterator[Served]:
    """A module of the tests that prints its port or its whole address."""
    with _started(python(name)) as (process, output):
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
def behind(url: str, *, delay: int = 0, tls: bool = False) -> Iterator[Served]:
    """HAProxy before a server: it keeps every request for ``delay`` ms, or speaks TLS, or both."""
    program = haproxy()
    if program is None:
        raise SystemExit("a delay, and TLS, need HAProxy: apt-get install haproxy")
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as near:
        settings, lua = Path(folder, "haproxy.cfg"), Path(folder, "wait.lua")
        lua.write_text(_LUA.format(delay=delay))
        trusted = _certified(Path(folder)) if tls else None
        settings.write_text(
            _HAPROXY.format(
                globals=f"    lua-load {lua}" if delay else "",
                mode="http" if delay else "tcp",
                fd=near.fileno(),
                tls=f"ssl crt {folder}/certificate.pem" if tls else "",
                rules="    http-request lua.wait" if delay else "",
                address=urlsplit(url).netloc,
            )
        )
        # It inherits the socket: requests wait in its queue until it is ready.
        command = [program, "-q", "-db", "-f", str(settings)]
        with _started(command, subprocess.DEVNULL, [near.fileno()]) as (process, _):
            scheme = "https" if tls else "http"
            yield Served(f"{scheme}://127.0.0.1:{near.getsockname()[1]}", process, trusted)


def _certified(folder: Path) -> Path:
    """Write a certificate into a folder: the file of what certifies it."""
    import trustme  # noqa: PLC0415  # for those alone who encrypt

    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "certificate.pem")
    authority.cert_pem.write_to_path(folder / "trusted.pem")
    return folder / "trusted.pem"


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
