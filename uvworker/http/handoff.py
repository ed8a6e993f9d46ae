"""What uvicorn's protocols for HTTP/2 and WebSockets learn of their connection.

Such a protocol builds the scope itself, from the transport, and knows none of
gunicorn's settings. Rule: it gets a configuration whose app first does what
`Connection.admit` does: client, TLS, the proxy's headers, the access record.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeAlias

from ..access.record import Recorded
from .connection import Connection
from .refusal import Refusal

App: TypeAlias = Any  # an ASGI application, version 3


def configuration_for(
    connection: Connection,
    check: Callable[[dict[str, Any]], object] = lambda _scope: None,
) -> Any:
    """Return a shallow copy of uvicorn's configuration, for requests of *connection*.

    Args:
        connection: the one that is handed over.
        check: called with each scope; raises :class:`Refusal`.

    """
    service = connection.service
    app = _admitting(connection, check)
    if service.tally is not None:
        app = service.tally.watching(app)
    if service.recorded is not None:
        app = Recorded(app, service.recorded, ("http", "websocket"))

    async def with_peer(scope: Any, receive: Any, send: Any) -> None:
        scope.update(client=connection.client, server=connection.server)
        if connection.extensions:
            scope.setdefault("extensions", {}).update(connection.extensions)
        await app(scope, receive, send)

    config = copy.copy(service.config)
    config.loaded_app = with_peer
    return config


def _admitting(
    connection: Connection, check: Callable[[dict[str, Any]], object]
) -> App:
    """Return the worker's app, behind the checks that may refuse a request."""
    app = connection.service.app

    async def admitting(scope: Any, receive: Any, send: Any) -> None:
        try:
            check(scope)
            if connection.trusted:
                connection.forward(scope)
        except Refusal as refusal:
            connection.log_refusal(refusal)
            await _answer(refusal, scope["type"], send)
        else:
            await app(scope, receive, send)

    return admitting


async def _answer(refusal: Refusal, kind: str, send: Any) -> None:
    """Send a refusal as an app does: for a WebSocket it is a denial response."""
    prefix = "websocket." if kind == "websocket" else ""
    start = f"{prefix}http.response.start"
    headers = [pair for pair in refusal.headers if pair[0] != b"connection"]
    await send({"type": start, "status": refusal.status, "headers": headers})
    await send({"type": f"{prefix}http.response.body", "body": refusal.body})
