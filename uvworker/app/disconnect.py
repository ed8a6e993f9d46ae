"""`ClientDisconnected`, which `send()` raises, and the errors that follow from it.

Rule: over HTTP, only an app of ours sees `ClientDisconnected`. In ASGI HTTP 2.3, an app
learns from `receive()` that the client left; a WSGI app in its thread calls only
`send()`. With a WebSocket every app sees it, as in ASGI since 2.4.
"""

from __future__ import annotations

import asyncio


class ClientDisconnected(OSError):  # noqa: N818 - uvicorn's name for the same
    """The client has left. Over HTTP it is raised only for an app of ours."""


def caused_by_disconnect(
    error: BaseException | None, seen: frozenset[int] = frozenset()
) -> bool:
    """Return whether *error* follows from a disconnect, also if it is wrapped.

    Frameworks raise exceptions of their own from a cancellation, and task groups raise
    exception groups. To log each would fill the log, since clients leave all the time.
    But what an app raises while it handles one, as in a ``finally``, is a fault of its
    own, and so is a timeout, which asyncio raises from a cancellation too. *seen* has
    the ids of what was looked at: Starlette raises the only exception of a group while
    it handles the group, which makes the group its member's context.
    """
    while error is not None and id(error) not in seen:
        if isinstance(error, (ClientDisconnected, asyncio.CancelledError)):
            return True
        if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
            return False
        seen |= {id(error)}
        group = getattr(error, "exceptions", None)
        if group:
            return all(caused_by_disconnect(each, seen) for each in group)
        error = error.__cause__
    return False


def is_websocket_disconnect(error: BaseException) -> bool:
    """Return whether *error* is a framework's exception for a WebSocket's disconnect.

    Starlette, Litestar and Falcon raise one in the app, and many apps do not catch it.
    An exception that the app raises while it handles one does not count.
    """
    group = getattr(error, "exceptions", None)
    if group:
        return all(is_websocket_disconnect(each) for each in group)
    return type(error).__name__.startswith("WebSocketDisconnect")
