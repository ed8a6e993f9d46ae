"""The receiving half of a cycle: the request's body, on its way to the app.

Rule: a body that arrived whole reaches the app, even if its client has left since; half
a body ends in `http.disconnect`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from .files import Outlet

Message = dict[str, Any]

DISCONNECT = "http.disconnect"


class Source(Outlet, Protocol):
    """The connection that a body comes by."""

    def resume_reading(self) -> None:
        """Go on reading: the app waits for the body, or for a disconnect."""


class Receiving:
    """A request as far as `receive` goes; `Cycle` fills its slots."""

    connection: Source
    scope: dict[str, Any]

    # The request
    chunks: Sequence[bytes]  # of body, not yet given to the app
    buffered: int  # bytes in them
    received: int  # bytes of body so far
    more_body: bool  # on the wire
    whole: bool  # the app has been given the last of the body
    continued: bool  # the app asked for the body, 100 Continue was sent
    # Of the request too: apps may rewrite the scope
    chunks_understood: bool  # HTTP/1.1
    gone: bool  # receive() says http.disconnect
    lost: bool  # nothing can be sent any more

    # The response
    status: int
    complete: bool

    changed: asyncio.Event | None  # only once receive() has had to wait

    __slots__ = (
        "buffered",
        "changed",
        "chunks",
        "chunks_understood",
        "complete",
        "connection",
        "continued",
        "gone",
        "lost",
        "more_body",
        "received",
        "scope",
        "status",
        "whole",
    )

    # -- what the connection does with it

    def feed(self, body: bytes) -> None:
        """Take a piece of the request's body."""
        if self.chunks:
            self.chunks.append(body)  # type: ignore[attr-defined]  # a list by now
        else:
            self.chunks = [body]
        self.buffered += len(body)
        self.wake()

    def wake(self) -> None:
        """Let a waiting `receive()` look again."""
        if self.changed is not None:
            self.changed.set()

    def listens(self) -> bool:
        """Return whether the app waits for a disconnect, which only reading finds."""
        return self.whole and self.changed is not None and not self.changed.is_set()

    def disconnect(self, *, lost: bool) -> None:
        """Tell the app that the client leaves, or that it is *lost*."""
        self.gone = True
        self.lost = self.lost or lost
        self.wake()

    # -- what the app does with it

    async def receive(self) -> Message:
        """Return the next `http.request`, or `http.disconnect`."""
        while not (self.chunks or self.gone or self.complete):
            if not (self.more_body or self.whole):
                break
            await self._wait()
        # A body that arrived whole comes first: its sender may have left on purpose.
        if self.complete or (self.gone and (self.lost or self.more_body or self.whole)):
            return {"type": DISCONNECT}
        body = b"".join(self.chunks)
        self.chunks, self.buffered = (), 0
        self.whole = not self.more_body
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def _wait(self) -> None:
        self.connection.resume_reading()
        if self.more_body and not self.status and self.awaits_continue():
            self._continue()
        self.continued = True
        if self.changed is None:
            self.changed = asyncio.Event()
        self.changed.clear()
        await self.changed.wait()

    def _continue(self) -> None:
        self.connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def awaits_continue(self) -> bool:
        """Return whether the client may be holding its body back: RFC 9110 10.1.1."""
        return (
            not (self.continued or self.received)
            and self.chunks_understood
            and any(
                name == b"expect" and value.lower() == b"100-continue"
                for name, value in self.scope["headers"]
            )
        )
