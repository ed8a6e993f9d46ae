"""Clients that count every byte and never retry, so that each lost request shows.

The rule: a request has failed unless exactly its own answer came back. A connection
that is refused or reset is a failure too; only one that the server closed, or announced
to close, before the request was sent is not. No HTTP library here: each of them
retries, drops a stale connection, or forgives a short body somewhere.
"""

from __future__ import annotations

import itertools
import random
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .namespaces import enter
from .service import PATIENCE, wait_for

Address = tuple[str, int] | Path

REFUSED = "refused"  # no listener: the connection was refused
AFTERWARDS = " after the request was sent"
RESET = f"ConnectionResetError{AFTERWARDS}"
FILLINGS = (0, 700, 20_000)  # bytes: in one read, in one, in several

# Answers each request with its body, and says who answered.
ECHO = """
import os

async def app(scope, receive, send):
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
    length = b"%d" % len(body)
    headers = [(b"content-length", length), (b"x-pid", b"%d" % os.getpid())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""


class Loss(Exception):  # noqa: N818  what happened, not what went wrong in here
    """Why a request was not answered."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its result."""

    began: float  # time.monotonic(), before a connection that it needed was opened
    took: float  # seconds
    pid: int  # of the worker; 0 without an answer
    failure: str  # "" if it was answered


class Load:
    """Steady load on a service that serves `ECHO`, for the time of a ``with`` block.

    *address*: host and port, or the path of a unix socket.
    *keep_alive*: clients that keep their connection while the server does.
    *one_shot*: clients that open a connection for each request.
    *pause*: seconds between two requests of a client; 0 for full load.
    *tls*: for HTTPS, to the name ``localhost``.
    *fillings*: the sizes of the bodies, of which each request takes one.
    *network*: the file of the network namespace that the clients are in.
    """

    def __init__(
        self,
        address: Address,
        *,
        keep_alive: int = 4,
        one_shot: int = 2,
        pause: float = 0.0,
        tls: ssl.SSLContext | None = None,
        fillings: Sequence[int] = FILLINGS,
        network: Path | None = None,
    ) -> None:
        self.address = address
        self.fillings = fillings
        self.pause = pause
        self.tls = tls
        self.network = network
        self.over = threading.Event()
        self.exchanges: list[Exchange] = []
        self._clients = [
            threading.Thread(target=self._run, args=[keeps], daemon=True)
            for keeps in [True] * keep_alive + [False] * one_shot
        ]

    def __enter__(self) -> Load:  # noqa: PYI034  not a base class
        for client in self._clients:
            client.start()
        self.answer(len(self._clients))
        return self

    def __exit__(self, *_exc: object) -> None:
        self.over.set()
        for client in self._clients:
            client.join(2 * PATIENCE)
            assert not client.is_alive()

    @property
    def failures(self) -> list[str]:
        return [each.failure for each in self.exchanges if each.failure]

    @property
    def answered(self) -> int:
        return len(self.exchanges) - len(self.failures)

    @property
    def lost_in_a_stop(self) -> list[str]:
        """Failures other than a refused connection, without one reset.

        In the microseconds between the last accept and the close of the listener, the
        kernel may accept a client and then reset it; no system call does both at once.
        Tests that fill the backlog first cover clients that waited longer.
        """
        lost = [failure for failure in self.failures if failure != REFUSED]
        return [] if lost == [RESET] else lost

    def answer(self, count: int) -> None:
        """Wait until *count* more requests are answered."""
        goal = self.answered + count
        wait_for(
            lambda: self.answered >= goal or self.failures,
            f"{count} more requests answered",
        )

    def slowest(self, since: float, until: float) -> float:
        """Return the longest that a request took which ran between two times."""
        return max(
            each.took
            for each in self.exchanges
            if each.began < until and each.began + each.took > since
        )

    def wait_refused(self) -> None:
        """Wait until every client was refused and has given up."""
        wait_for(
            lambda: not any(client.is_alive() for client in self._clients),
            "all clients refused",
        )

    def _run(self, keeps: bool) -> None:
        if self.network:
            enter(self.network)
        client = Client(self.address, keeps=keeps, tls=self.tls, fillings=self.fillings)
        while not self.over.is_set():
            exchange = client.exchange()
            self.exchanges.append(exchange)
            if exchange.failure == REFUSED:
                break
            if self.pause:
                self.over.wait(self.pause)
        client.close()


class Client:
    """One client, with one connection at a time."""

    _tokens = itertools.count()

    def __init__(
        self,
        address: Address,
        *,
        keeps: bool = True,
        tls: ssl.SSLContext | None = None,
        fillings: Sequence[int] = FILLINGS,
    ) -> None:
        self._address = address
        self._fillings = fillings
        self._keeps = keeps
        self._tls = tls
        self._connection: socket.socket | None = None

    def exchange(self) -> Exchange:
        """Send a request with a unique body, and read its answer."""
        began, failure, pid = time.monotonic(), "", 0
        body = b"%d:" % next(self._tokens) + b"x" * random.choice(self._fillings)
        try:
            connection = self._connect()
            connection.sendall(self._head(body) + body)
            pid = self._read(connection, body)
        except Loss as fault:
            failure = str(fault)
        except OSError as error:
            failure = f"{type(error).__name__}{AFTERWARDS}"
        if failure:
            self.close()
        return Exchange(began, time.monotonic() - began, pid, failure)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> socket.socket:
        if self._connection is not None:
            closed, _, _ = select.select([self._connection], [], [], 0)
            if not closed:
                return self._connection
            self.close()
        self._connection = connect(self._address)
        if self._tls:
            self._connection = self._tls.wrap_socket(
                self._connection, server_hostname="localhost"
            )
        return self._connection

    def _head(self, body: bytes) -> bytes:
        wish = b"" if self._keeps else b"Connection: close\r\n"
        return b"POST / HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: %d\r\n\r\n" % (
            wish,
            len(body),
        )

    def _read(self, connection: socket.socket, body: bytes) -> int:
        """Read the whole answer and nothing beyond it; return the worker's pid."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += _more(connection, received)
        head, _, content = received.partition(b"\r\n\r\n")
        head = head.lower()
        if not head.startswith(b"http/1.1 200 "):
            raise Loss(received.decode("latin-1")[:200])
        length = _field(head, rb"content-length: (\d+)")
        while len(content) < length:
            content += _more(connection, received)
        if content != body:
            raise Loss(f"another body: {content[:50]!r} for {body[:50]!r}")
        if b"connection: close" in head or not self._keeps:
            if rest := connection.recv(1):
                raise Loss(f"bytes after the end: {rest!r}")
            self.close()
        return _field(head, rb"x-pid: (\d+)")


def connect(address: Address) -> socket.socket:
    """Open a connection; raise `Loss` if that fails."""
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE)
    try:
        connection.connect(str(address) if isinstance(address, Path) else address)
    except (ConnectionRefusedError, FileNotFoundError):
        connection.close()
        raise Loss(REFUSED) from None
    except OSError as error:
        connection.close()
        raise Loss(f"{type(error).__name__} while connecting") from None
    return connection


def _more(connection: socket.socket, received: bytes) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise Loss(f"closed after {len(received)} bytes of the answer")
    return data


def _field(head: bytes, pattern: bytes) -> int:
    found = re.search(pattern, head)
    if found is None:
        raise Loss(f"no {pattern!r} in {head!r}")
    return int(found[1])
