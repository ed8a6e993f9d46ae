"""What another protocol's requests are told, and held to, of their connection.

A WebSocket and HTTP/2 are uvicorn's protocols here. They build the scope themselves,
from the transport, and know none of gunicorn's settings. Rule: whoever takes a
connection over gets a configuration whose app does first what `HTTPProtocol.admit`
does: the client, TLS, the proxy's word, the access record.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeAlias

from .accessrecord import Recorded
from .refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from .protocol import HTTPProtocol

App: TypeAlias = Any  # an ASGI application, version 3


def configuration_for(
    connection: HTTPProtocol,
    check: Callable[[dict[str, Any]], object] = lambda _scope: None,
) -> Any:
    """Return uvicorn's configuration with an app that knows *connection*.

    The copy is shallow.

    Args:
        connection: whose requests the app will get.
        check: called with each scope; raises :class:`Refusal`.

    """
    service = connection.service
    app = _admitting(connection, check)
    if service.record is not None:
        app = Recorded(app, service.record, ("http", "websocket"))

    async def introduced(scope: Any, receive: Any, send: Any) -> None:
        scope.update(client=connection.client, server=connection.server)
        if connection.extensions:
            scope.setdefault("extensions", {}).update(connection.extensions)
        await app(scope, receive, send)

    config = copy.copy(service.config)
    config.loaded_app = introduced
    return config


def _admitting(
    connection: HTTPProtocol, check: Callable[[dict[str, Any]], object]
) -> App:
    """Return the worker's app behind what may refuse a request."""
    app = connection.service.app

    async def admitting(scope: Any, receive: Any, send: Any) -> None:
        try:
            check(scope)
            if connection.trusted:
                connection.forward(scope)
        except Refusal as refusal:
            connection.complain(refusal)
            await _answer(refusal, scope["type"], send)
        else:
            await app(scope, receive, send)

    return admitting


async def _answer(refusal: Refusal, kind: str, send: Any) -> None:
    """Refuse a request as an app does; a handshake by ASGI's denial response."""
    prefix = "websocket." if kind == "websocket" else ""
    start = f"{prefix}http.response.start"
    headers = [pair for pair in refusal.headers if pair[0] != b"connection"]
    await send({"type": start, "status": refusal.status, "headers": headers})
    await send({"type": f"{prefix}http.response.body", "body": refusal.body})
