"""A WSGI app in a2wsgi's threads, none of which works on for a client that left.

Such a thread hands each piece of its response to a task on the loop, and waits until
that has taken it. A task that ends early, because `send()` raises or the request is
cancelled, would leave the thread waiting for ever: ten downloads broken off, and the
pool is empty. Rule: what a2wsgi runs on the loop always runs to its end, and it is the
app's own iterable that stops.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from .accessrecord import ASGIApp, Message, Receive, Scope, Send
from .cycle import ClientDisconnected

WSGIApp: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Leaving:
    """Whether anybody still waits for a response; set on the loop, read in a thread."""

    def __init__(self) -> None:
        self.left = False


_LEAVING = "uvworker.leaving"  # the key in the scope, which the environ holds


class Threaded:
    """An ASGI app around a WSGI app.

    Args:
        app: the WSGI app.
        middleware: a2wsgi's ``WSGIMiddleware``, given the app and *arguments*.
        arguments: ``workers``, the size of the thread pool.

    """

    def __init__(
        self, app: WSGIApp, middleware: Callable[..., ASGIApp], **arguments: Any
    ) -> None:
        self._app = app
        self._asgi = middleware(self._in_thread, **arguments)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app; when this is cancelled, its thread ends at its next piece."""
        if scope["type"] != "http":
            await self._asgi(scope, receive, send)
            return
        leaving = scope[_LEAVING] = Leaving()
        work = asyncio.ensure_future(self._work(scope, receive, send))
        try:
            error = await asyncio.shield(work)
        finally:
            leaving.left = True
        if error is not None:
            raise error

    async def _work(
        self, scope: Scope, receive: Receive, send: Send
    ) -> BaseException | None:
        """Run a2wsgi to its end, and return its error: nobody may be waiting."""
        leaving: Leaving = scope[_LEAVING]

        async def receive_all() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                # a2wsgi would take it for the end of the body, and half for a whole.
                raise ClientDisconnected("The client left within its request.")
            return message

        async def send_all(message: Message) -> None:
            if leaving.left:
                return
            try:
                await send(message)
            except OSError:
                leaving.left = True

        try:
            await self._asgi(scope, receive_all, send_all)
        except BaseException as error:  # noqa: BLE001 - sys.exit() ends a request only
            return error
        return None

    # In the thread

    def _in_thread(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterator[bytes]:
        leaving: Leaving = environ["asgi.scope"][_LEAVING]
        environ["wsgi.errors"] = sys.stderr  # a2wsgi: stdout, where access lines go

        def start(*arguments: Any) -> Callable[[bytes], object]:
            write = start_response(*arguments)

            def write_unless_left(piece: bytes) -> None:
                if leaving.left:
                    raise ClientDisconnected("The client has left.")
                write(piece)

            return write_unless_left

        return _until_left(self._app(environ, start), leaving)


def _until_left(pieces: Iterable[bytes], leaving: Leaving) -> Iterator[bytes]:
    """Yield the app's pieces while somebody waits for them; close it at the end."""
    try:
        for piece in pieces:
            if leaving.left:
                return
            yield piece
    finally:
        getattr(pieces, "close", lambda: None)()
