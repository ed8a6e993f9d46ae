"""A real server in a thread, as for the HTTP protocol, with WebSockets of our own."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.http.conftest import DEADLINE, Client, Service, loop, quick, serve
from tests.tools.certificates import Certificates
from uvworker.websocket.opening import WebSockets
from uvworker.websocket.service import Settings

from . import client as wire

__all__ = ["loop", "quick", "serve"]

Start = Callable[..., Service]


@pytest.fixture
def sockets(serve: Start) -> Start:
    """Start servers: `sockets(app, max_size=..., limits=..., config=...)`."""
    names = Settings.__dataclass_fields__

    def start(app: Any, **settings: Any) -> Service:
        chosen = {name: settings.pop(name) for name in names if name in settings}
        opening = partial(WebSockets, Settings(**chosen))
        return serve(app, websockets=opening, **settings)

    return start


def join(service: Service, path: str = "/", **options: Any) -> ClientConnection:
    """Return an open WebSocket of `websockets`' own client."""
    url = f"ws://127.0.0.1:{service.port}{path}"
    return connect(url, open_timeout=DEADLINE, close_timeout=DEADLINE, **options)


def enter(service: Service, *lines: bytes, tls: ssl.SSLContext | None = None) -> Client:
    """Return a connection with a WebSocket on it, to talk in bytes."""
    client = service.connect()
    if tls is not None:
        client.sock = tls.wrap_socket(client.sock, server_hostname="localhost")
    client.send(wire.handshake(*lines))
    while client.line() != b"\r\n":
        pass
    return client


def over_tls(certificates: Certificates) -> dict[str, str]:
    """Return what uvicorn's configuration takes for them."""
    cert, key = certificates.certfile, certificates.keyfile
    return {"ssl_certfile": str(cert), "ssl_keyfile": str(key)}


def hear(client: Client) -> tuple[int, bytes]:
    """Return the first byte and the payload of the server's next frame."""
    first, size = _exactly(client, 2)
    if size > 125:
        size = int.from_bytes(_exactly(client, 2 if size == 126 else 8), "big")
    return first, _exactly(client, size)


def hear_close(client: Client) -> tuple[int, str]:
    """Return code and reason of the close frame that comes next, and the end."""
    first, payload = hear(client)
    assert first == 0x88, (first, payload)
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


def _exactly(client: Client, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = client.sock.recv(size - len(data))
        assert piece, f"the end, after {data!r}"
        data += piece
    return data
