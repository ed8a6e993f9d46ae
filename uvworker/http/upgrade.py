"""Requests that ask for another protocol (RFC 9110 section 7.8).

Rule: a WebSocket goes to uvicorn's WebSocket protocol, with the connection; every
other offer is declined by serving the request as if it had not been made, body
included. llhttp takes the body of a request with `Upgrade` for the other protocol's
bytes, so such a request is parsed a second time, without the offer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .introduction import configuration_for
from .refusal import Refusal

if TYPE_CHECKING:
    from .protocol import HTTPProtocol

NO_LIBRARY = "no WebSocket library is installed: pip install websockets, or wsproto"


def decide(connection: HTTPProtocol, rest: bytes) -> None:
    """Upgrade, decline or refuse; *rest* came behind the head."""
    request = connection.describe()
    method, version = request["method"], request["http_version"]
    if method == "CONNECT":
        connection.refuse(Refusal(501, "CONNECT is for proxies"))
        return
    config = connection.service.config
    offer = b"".join(v for n, v in connection.headers if n == b"upgrade").lower()
    # A handshake is a GET over HTTP/1.1 (RFC 6455 section 4.1), and over HTTP/1.0
    # there is none of anything (RFC 9110 section 7.8).
    handshake = offer == b"websocket" and (method, version) == ("GET", "1.1")
    if not handshake or config.ws == "none":
        head = _head(connection, method, version, without=b"upgrade")
        connection.reparse(head + rest)
    elif config.ws_protocol_class is None:
        connection.refuse(
            Refusal(501, NO_LIBRARY, text="WebSockets are not served here.")
        )
    elif connection.cycle is not None:
        connection.refuse(Refusal(400, "a WebSocket pipelined behind a request"))
    else:
        _hand_over(connection, _head(connection, method, version) + rest)


def _hand_over(connection: HTTPProtocol, request: bytes) -> None:
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


def _configuration(connection: HTTPProtocol) -> Any:
    """Return uvicorn's own, or one that knows more where there is more to know."""
    more = (
        connection.trusted
        or connection.announced
        or connection.extensions
        or connection.service.record
    )
    return configuration_for(connection) if more else connection.service.config


def _head(
    connection: HTTPProtocol, method: str, version: str, without: bytes = b""
) -> bytes:
    """Write the request's head again."""
    first = method.encode("ascii"), connection.url, version.encode("ascii")
    lines = [b"%b %b HTTP/%b" % first]
    lines += [b"%b: %b" % (n, v) for n, v in connection.headers if n != without]
    return b"\r\n".join((*lines, b"", b""))
