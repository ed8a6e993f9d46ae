"""A WSGI app in a2wsgi's threads, which stop when their client takes no more.

A thread passes each piece of its response to a task on the loop, and waits until the
task has sent it. If the task ended early, because `send()` raises or the request is
cancelled, the thread would wait for ever: after ten interrupted downloads, the pool
would have no thread left. Rule: what a2wsgi runs on the loop always runs to its end; to
stop early, the app's iterable is ended.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from .asgi import ASGIApp, Message, Receive, Scope, Send
from .disconnect import ClientDisconnected
from .path_warnings import PathWarnings

WSGIApp: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


TOO_LONG = (
    "The app sent a longer body to %s %r than its Content-Length; the rest was dropped."
)


class Client:
    """What a client can still take; set on the loop, read in a thread."""

    def __init__(self) -> None:
        self.left = False
        self.full = False  # it has all that Content-Length announced, and more came
        self._room: int | None = None  # bytes

    @property
    def takes_no_more(self) -> bool:
        """Whether the app may stop."""
        return self.left or self.full

    def fitted(self, message: Message) -> Message:
        """Return *message* without the bytes that are beyond the Content-Length.

        PEP 3333 forbids to send them, and gunicorn drops them silently.
        """
        if message["type"] == "http.response.start":
            lengths = [v for k, v in message["headers"] if k == b"content-length"]
            if len(lengths) == 1 and lengths[0].isdigit():
                self._room = int(lengths[0])
        elif self._room is not None and isinstance(body := message["body"], bytes):
            self.full = len(body) > self._room
            if self.full:
                return {"type": message["type"], "body": body[: self._room]}
            self._room -= len(body)
        return message


_CLIENT = "uvworker.client"  # the key in the scope, which the environ holds


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
        self._too_long = PathWarnings(TOO_LONG)
        self._asgi = middleware(self._in_thread, **arguments)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app; after a cancellation, its thread ends at its next piece."""
        if scope["type"] != "http":
            await self._asgi(scope, receive, send)
            return
        client = scope[_CLIENT] = Client()
        work = asyncio.ensure_future(self._work(scope, receive, send))
        try:
            error = await asyncio.shield(work)
        finally:
            client.left = True
        if error is not None:
            raise error

    async def _work(
        self, scope: Scope, receive: Receive, send: Send
    ) -> BaseException | None:
        """Run a2wsgi to its end, and return its error; the caller may be cancelled."""
        client: Client = scope[_CLIENT]

        async def receive_all() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                # To a2wsgi it is the end of the body: half a body would look whole.
                raise ClientDisconnected("The client left before its request ended.")
            return message

        async def send_all(message: Message) -> None:
            if client.takes_no_more:
                return
            try:
                await send(client.fitted(message))
            except ClientDisconnected:
                client.left = True
            except Exception as error:  # noqa: BLE001 - raised when the thread is done
                client.left = True
                errors.append(error)

        errors: list[BaseException] = []
        try:
            await self._asgi(scope, receive_all, send_all)
        except BaseException as error:  # noqa: BLE001 - sys.exit() ends a request only
            errors.append(error)
        if client.full and scope["method"] != "HEAD":
            self._too_long.warn(scope["path"], scope["method"], scope["path"])
        return errors[0] if errors else None

    # In the thread

    def _in_thread(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterator[bytes]:
        client: Client = environ["asgi.scope"][_CLIENT]
        environ["wsgi.errors"] = sys.stderr  # a2wsgi: stdout, where access lines go

        def start(*arguments: Any) -> Callable[[bytes], object]:
            write = start_response(*arguments)

            def write_unless_left(piece: bytes) -> None:
                if client.left:
                    raise ClientDisconnected("The client has left.")
                if not client.full:
                    write(piece)

            return write_unless_left

        return _until_left(self._app(environ, start), client)


def _until_left(pieces: Iterable[bytes], client: Client) -> Iterator[bytes]:
    """Yield the app's pieces until the client leaves; close the iterable at the end."""
    try:
        for piece in pieces:
            if client.takes_no_more:
                return
            yield piece
    finally:
        getattr(pieces, "close", lambda: None)()
