"""Requests that ask for another protocol (RFC 9110 section 7.8).

Rule: a WebSocket is served by our protocol or by uvicorn's. Every other offer is
declined: the request is served, with its body, as if it had no `Upgrade`. llhttp takes
the body of a request with `Upgrade` for bytes of the other protocol, so the request is
parsed a second time without it.
"""

from __future__ import annotations

from typing import Any

from . import handshake, negotiation
from .connection import Connection
from .handoff import configuration_for
from .refusal import Refusal

NO_LIBRARY = "no WebSocket library is installed: pip install websockets, or wsproto"


def decide(connection: Connection, rest: bytes) -> bytes | None:
    """Upgrade or refuse; or decline, and return what is to be parsed instead.

    It is returned, and not parsed here: hundreds of requests pipelined with `Upgrade`
    would nest as many calls.

    Args:
        connection: whose parser has just read a head with `Upgrade`.
        rest: what arrived behind the head.

    """
    request = connection.describe()
    method, version = request["method"], request["http_version"]
    if method == "CONNECT":
        connection.refuse(Refusal(501, "CONNECT is for proxies"))
        return None
    config = connection.service.config
    offer = b"".join(v for n, v in connection.headers if n == b"upgrade").lower()
    # A WebSocket's handshake is a GET over HTTP/1.1 (RFC 6455 section 4.1). Over
    # HTTP/1.0 every `Upgrade` is ignored (RFC 9110 section 7.8).
    if (offer, version) == (b"h2c", "1.1") and negotiation.upgrade(
        connection, method, rest
    ):
        return None
    asked = offer == b"websocket" and (method, version) == ("GET", "1.1")
    ours = connection.service.websockets is not None
    if not asked or (config.ws == "none" and not ours):
        connection.start_over()
        return _head(connection, method, version, without=b"upgrade") + rest
    if config.ws_protocol_class is None and not ours:
        connection.refuse(
            Refusal(501, NO_LIBRARY, text="WebSockets are not served here.")
        )
    elif connection.cycle is not None:
        connection.refuse(Refusal(400, "a WebSocket pipelined behind a request"))
    elif ours:
        handshake.take(connection, rest)
    else:
        _hand_over(connection, _head(connection, method, version) + rest)
    return None


def _hand_over(connection: Connection, request: bytes) -> None:
    transport = connection.transport
    connection.release()
    websocket_protocol: Any = connection.service.config.ws_protocol_class
    websocket = websocket_protocol(
        config=_configuration(connection),
        server_state=connection.server_state,
        app_state=connection.app_state,
    )
    websocket.connection_made(transport)
    transport.set_protocol(websocket)
    websocket.data_received(request)


def _configuration(connection: Connection) -> Any:
    """Return uvicorn's configuration, changed if the app needs more of us."""
    changed = (
        connection.trusted
        or connection.announced
        or connection.extensions
        or connection.service.recorded
    )
    return configuration_for(connection) if changed else connection.service.config


def _head(
    connection: Connection, method: str, version: str, without: bytes = b""
) -> bytes:
    """Return the request's head as bytes, *without* one field."""
    first = method.encode("ascii"), connection.url, version.encode("ascii")
    lines = [b"%b %b HTTP/%b" % first]
    lines += [b"%b: %b" % (n, v) for n, v in connection.headers if n != without]
    return b"\r\n".join((*lines, b"", b""))
