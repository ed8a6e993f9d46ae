"""A raw HTTP/2 client: it does what it is told, and remembers what it was sent."""

from __future__ import annotations

import socket
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, TypeVar

import h2.config
import h2.connection
import h2.events

from .service import PATIENCE

E = TypeVar("E")


class Peer:
    """One connection over *sock*; its events come up when something is awaited."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(PATIENCE)
        configuration = h2.config.H2Configuration(
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(configuration)
        self.h2.initiate_connection()
        self.events: list[Any] = []
        self.closed = False
        self.credits = True  # gives the server its window back
        self.flush()

    def flush(self) -> None:
        if data := self.h2.data_to_send():
            self.sock.sendall(data)

    def ask(
        self,
        path: str = "/",
        method: str = "GET",
        fields: Iterable[tuple[str, str]] = (),
        *,
        end: bool = True,
    ) -> int:
        """Send a head, and return the number of its stream."""
        stream = self.h2.get_next_available_stream_id()
        pseudo = {":method": method, ":path": path, ":scheme": "http"}
        head = [*pseudo.items(), (":authority", "localhost"), *fields]
        self.h2.send_headers(stream, head, end_stream=end)
        self.flush()
        return stream

    def read(self) -> None:
        """Take what the server sends next."""
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            return
        for event in self.h2.receive_data(data):
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived) and self.credits:
                size = event.flow_controlled_length or 0
                self.h2.acknowledge_received_data(size, event.stream_id)
        self.flush()

    def wait(self, kind: type[E], stream: int | None = None) -> E:
        """Return the first event of *kind*, of *stream* if one is named."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not self.closed:
            for event in self.events:
                if isinstance(event, kind) and (
                    stream is None or getattr(event, "stream_id", 0) == stream
                ):
                    return event
            self.read()
        raise AssertionError(f"no {kind.__name__} among {self.events}")

    def answer(self, stream: int) -> tuple[int, bytes]:
        """Wait for a whole response; return its status and its body."""
        self.wait(h2.events.StreamEnded, stream)
        bodies: dict[int, bytes] = defaultdict(bytes)
        for event in self.events:
            if isinstance(event, h2.events.DataReceived):
                bodies[event.stream_id] += event.data
        return self.status(stream), bodies[stream]

    def head(self, stream: int) -> dict[bytes, bytes]:
        return dict(self.wait(h2.events.ResponseReceived, stream).headers)

    def status(self, stream: int) -> int:
        return int(self.head(stream)[b":status"])

    def wait_closed(self) -> None:
        while not self.closed:
            self.read()
