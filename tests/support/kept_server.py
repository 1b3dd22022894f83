"""A server in threads of its own, which does things to idle connections while a test's loop stands.

What it has done when ``on_all`` returns has reached this machine's sockets, and the event loop of
the test has not had a turn since.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import stat
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

Act = Callable[[socket.socket], None]
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"


@dataclass(eq=False)
class _Connection:
    socket: socket.socket
    wake: tuple[int, int] = field(default_factory=os.pipe)
    acts: list[Act] = field(default_factory=list)
    acted: threading.Event = field(default_factory=threading.Event)
    open: bool = True


@dataclass(eq=False)
class KeptServer:
    """Answers every request with what ``answer`` makes of its head, and keeps the connection.

    Attributes:
        answer: the bytes of an answer, by the head of the request.
        tls: what it encrypts with; None does not.
        requests: heads, in order.
        accepted: connections that came about.
    """

    answer: Callable[[bytes], bytes]
    tls: ssl.SSLContext | None = None
    requests: list[bytes] = field(default_factory=list)
    accepted: int = 0
    _connections: list[_Connection] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._address = self._listener.getsockname()
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._connections:
            with suppress(OSError):
                each.socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()

    @property
    def url(self) -> str:
        port = self._address[1]
        return f"https://localhost:{port}" if self.tls else f"http://127.0.0.1:{port}"

    @property
    def open(self) -> int:
        """Connections that neither side has closed."""
        return sum(each.open for each in self._connections)

    def on_all(self, act: Act) -> None:
        """Do this to every open connection, and return when it has arrived at the other end."""
        ends = self._other_ends()
        for each in self._connections:
            if each.open:
                each.acts.append(act)
                each.acted.clear()
                os.write(each.wake[1], b"x")
                assert each.acted.wait(5)
        for end in ends:
            assert select.select([end], [], [], 5)[0]

    def _other_ends(self) -> list[int]:
        """The descriptors of those of this process's sockets that lead here."""
        found = []
        for each in Path("/proc/self/fd").iterdir():
            end = int(each.name)
            with suppress(OSError):
                if stat.S_ISSOCK(os.fstat(end).st_mode):
                    with socket.socket(fileno=os.dup(end)) as made:
                        if made.getpeername() == self._address:
                            found.append(end)
        return found

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                made, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, made)

    def _serve(self, made: socket.socket) -> None:
        made.settimeout(5)
        if self.tls is not None:
            try:
                made = self.tls.wrap_socket(made, server_side=True)
            except OSError:
                return
        connection = _Connection(made)
        self.accepted += 1
        self._connections.append(connection)
        with suppress(OSError):
            self._talk(connection)
        connection.open = False
        connection.acted.set()
        made.close()
        for end in connection.wake:
            os.close(end)

    def _talk(self, connection: _Connection) -> None:
        read, unread = connection.wake[0], b""
        while connection.socket.fileno() >= 0:
            either: list[Any] = [connection.socket, read]
            ready, _, _ = select.select(either, [], [])
            if read in ready:
                os.read(read, 1)
                connection.acts.pop(0)(connection.socket)
                connection.open = connection.socket.fileno() >= 0
                connection.acted.set()
                continue
            came = connection.socket.recv(65536)
            if not came:
                return
            unread += came
            while b"\r\n\r\n" in unread:
                head, _, unread = unread.partition(b"\r\n\r\n")
                self.requests.append(head)
                connection.socket.sendall(self.answer(head))


def _close(made: socket.socket) -> None:
    made.close()


def _reset(made: socket.socket) -> None:
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    made.close()


def _half_close(made: socket.socket) -> None:
    made.shutdown(socket.SHUT_WR)


def _notify(made: socket.socket) -> None:
    """TLS's own word for the end, with the connection beneath it left open."""
    if isinstance(made, ssl.SSLSocket):
        made.settimeout(0.01)  # the client's own word is not waited for
        with suppress(OSError):
            made.unwrap()
        made.settimeout(5)


def say(data: bytes) -> Act:
    """Send this, which nobody has asked for."""
    return lambda made: made.sendall(data)


#: What a server, or a balancer before it, does to a connection that is idle.
ACTS: dict[str, Act] = {
    "close": _close,
    "reset": _reset,
    "half-close": _half_close,
    "answer": say(ANSWER % 3 + b"111"),
    "timeout": say(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"),
    "line": say(b"\r\n"),
    "half a head": say(b"HTTP/1.1 408 Request"),
}
#: The same over TLS.
TLS_ACTS: dict[str, Act] = {**ACTS, "close_notify": _notify}
