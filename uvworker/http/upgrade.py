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
    method: str = connection.describe()["method"]
    if method == "CONNECT":
        connection.refuse(Refusal(501, "CONNECT is for proxies"))
        return
    config = connection.service.config
    offer = b"".join(v for n, v in connection.headers if n == b"upgrade").lower()
    if offer != b"websocket" or config.ws == "none":
        connection.reparse(_head(connection, method, without=b"upgrade") + rest)
    elif config.ws_protocol_class is None:
        connection.refuse(
            Refusal(501, NO_LIBRARY, text="WebSockets are not served here.")
        )
    elif connection.cycle is not None:
        connection.refuse(Refusal(400, "a WebSocket pipelined behind a request"))
    else:
        _hand_over(connection, _head(connection, method) + rest)


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


def _head(connection: HTTPProtocol, method: str, without: bytes = b"") -> bytes:
    """Write the request's head again."""
    lines = [b"%b %b HTTP/1.1" % (method.encode("ascii"), connection.url)]
    lines += [b"%b: %b" % (n, v) for n, v in connection.headers if n != without]
    return b"\r\n".join((*lines, b"", b""))
