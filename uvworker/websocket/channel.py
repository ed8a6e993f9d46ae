"""A WebSocket as its app has it: `receive`, `send`, and their order.

Rule: what becomes of bytes is the connection's; here are messages, in the states that
the ASGI specification has for them (WebSocket, version 2.5)::

    CONNECTING  nothing is answered yet       -> OPEN, DENYING, CLOSED
    DENYING     an HTTP response is on its way -> CLOSED
    OPEN        messages go both ways          -> CLOSING, CLOSED
    CLOSING     our close frame is sent        -> CLOSED
    CLOSED      nothing is sent or read any more
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterator
from typing import Any, Protocol

from ..app.disconnect import ClientDisconnected
from ..app.pauses import pause
from . import frames
from .deflate import Agreement, Deflate
from .frames import ABNORMAL, NORMAL, WHOLE_BINARY, WHOLE_TEXT
from .service import Service

Header = tuple[bytes, bytes]
Message = dict[str, Any]

CONNECTING, DENYING, OPEN, CLOSING, CLOSED = range(5)

SUBPROTOCOL, EXTENSIONS = b"sec-websocket-protocol", b"sec-websocket-extensions"

# Bytes beyond which head and payload are two writes: copying more costs more. Not
# writelines(), with which asyncio before 3.12.9 never says that the client is slow.
ONE_WRITE = 65536


class Handshake(Protocol):
    """The HTTP request that asked for a WebSocket, as long as that lives."""

    def open(self, headers: list[Header]) -> tuple[asyncio.Transport, bytes]:
        """Answer 101; return the connection and what came on it early.

        Raises:
            RuntimeError: a header would not arrive as it was meant.

        """

    def respond(self, message: Message) -> Awaitable[None]:
        """Take one `http.response.*`."""

    def forbid(self) -> None:
        """Answer 403."""

    def leave(self) -> None:
        """Learn that nothing the app sends arrives any more."""

    def log_failure(self, code: int, reason: str) -> None:
        """Tell the log why a connection was failed; not each time, if often."""

    def end(self, websocket: Any, sent: int) -> None:
        """Learn that the connection is lost; *sent* bytes of messages went out."""


class Channel(ABC):
    """A WebSocket as far as its app sees it.

    It leaves three methods to the connection: `start`, `resume_reading` and `close`.

    Args:
        service: what all share.
        agreement: on compression.
        handshake: the request.

    """

    transport: asyncio.Transport

    __slots__ = (
        "_deflate",
        "_disconnect",
        "_gate",
        "_handshake",
        "_layered",
        "_paused",
        "_queue",
        "_queued",
        "_sent",
        "_service",
        "_waiters",
        "_written",
        "state",
        "transport",
    )

    def __init__(
        self, service: Service, agreement: Agreement | None, handshake: Handshake
    ) -> None:
        self.state = CONNECTING
        self._service = service
        self._handshake = handshake
        self._deflate = None if agreement is None else Deflate(agreement)
        # A list, as an empty deque takes ten times as much, and a full queue is short.
        self._queue: list[Message] = [{"type": "websocket.connect"}]
        self._queued = 0  # bytes, since it was last empty
        self._paused = False  # the client has to wait for the app
        self._waiters: list[asyncio.Future[None]] = []
        self._disconnect: Message | None = None
        self._gate: asyncio.Event | None = None  # shut while the client is slow
        self._layered = False  # TLS is between the transport and the socket
        self._sent = 0  # bytes of messages
        self._written = 0  # bytes of their frames, which may be compressed

    # -- what the connection does for it

    @abstractmethod
    def start(self, transport: asyncio.Transport, early: bytes) -> None:
        """Speak WebSocket on *transport*, from which *early* was read already."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Let the client go on: the app has taken all that there was."""

    @abstractmethod
    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame and await the client's."""

    # -- what the app does with it

    async def receive(self) -> Message:
        """Return the next message; at the end, and from then on, the disconnect."""
        while not self._queue:
            if self._disconnect is not None:
                return self._disconnect
            waiter = self._service.loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)
        message = self._queue.pop(0)
        if not self._queue:
            self._queued = 0
            if self._paused:
                self.resume_reading()
        return message

    async def send(self, message: Message) -> None:
        """Take one message, when the transport can.

        Raises:
            ClientDisconnected: the connection is closed.
            RuntimeError: the message is out of order, or is none.

        """
        if self._gate is not None:
            await self._gate.wait()
        if self.state == OPEN and message["type"] == "websocket.send":
            payload = message.get("bytes")
            if payload is None:
                text = message.get("text")
                if text is None:
                    raise RuntimeError("websocket.send has neither bytes nor text.")
                first, payload = WHOLE_TEXT, text.encode()
            else:
                first = WHOLE_BINARY
                if type(payload) is not bytes:
                    # As it is now: apps fill a buffer anew while it still waits.
                    payload = memoryview(payload).tobytes()
            self._write(first, payload)
            if self._layered:
                await pause()
        else:
            await self._answer(message)

    def _write(self, first: int, payload: bytes) -> None:
        """Write a message, whose *first* byte says what it is."""
        size = len(payload)
        self._sent += size
        if self._deflate is not None:
            first, payload = self._deflate.shrink(first, payload)
            size = len(payload)
        transport, head = self.transport, frames.head(first, size)
        self._written += len(head) + size
        if size <= ONE_WRITE:
            transport.write(head + payload)
        else:
            transport.write(head)
            transport.write(payload)
        if transport.is_closing():
            # A write has failed. asyncio tells of that only when the loop turns, and an
            # app that nothing holds back any more would never let it.
            self.disconnected(ABNORMAL)

    async def _answer(self, message: Message) -> None:
        """Take what is rarer than a message."""
        kind = message["type"]
        if self.state == CONNECTING and kind == "websocket.accept":
            self._accept(message)
        elif self.state == CONNECTING and kind == "websocket.close":
            self._handshake.forbid()
        elif self.state == CONNECTING and kind == "websocket.http.response.start":
            await self._handshake.respond({**message, "type": "http.response.start"})
            self.state = DENYING
        elif self.state == DENYING and kind == "websocket.http.response.body":
            await self._handshake.respond({**message, "type": "http.response.body"})
            if not message.get("more_body", False):
                self.disconnected(ABNORMAL)
        elif self.state == OPEN and kind == "websocket.close":
            code = message.get("code")
            code = NORMAL if code is None else code  # as apps write it for uvicorn
            if code not in frames.CODES:
                raise RuntimeError(f"A close frame cannot have the code {code}.")
            self.close(code, message.get("reason") or "")
        else:
            self._refuse(kind)

    def _refuse(self, kind: str) -> None:
        if self.state >= CLOSING:
            raise ClientDisconnected(f"The WebSocket is closed; {kind!r} is not sent.")
        raise RuntimeError(f"Unexpected ASGI message {kind!r} {_WHEN[self.state]}.")

    def _accept(self, message: Message) -> None:
        transport, early = self._handshake.open(list(self._headers(message)))
        self.state = OPEN
        self.start(transport, early)

    def _headers(self, message: Message) -> Iterator[Header]:
        """Yield the app's, and what was agreed on; each of the latter once."""
        subprotocol = message.get("subprotocol")
        taken = {EXTENSIONS, SUBPROTOCOL if subprotocol else EXTENSIONS}
        for pair in message.get("headers") or ():
            if pair[0].lower() not in taken:
                yield pair
        if subprotocol:
            yield SUBPROTOCOL, subprotocol.encode("latin-1")
        if self._deflate is not None:
            yield EXTENSIONS, self._deflate.agreement.header()

    # -- what it is told

    def put(self, message: Message, size: int) -> None:
        """Take a message of *size* for the app."""
        self._queue.append(message)
        self._queued += size
        self._wake()

    def tell(self, code: int, reason: str = "") -> None:
        """Let the app know that it is over, behind the messages that wait; once."""
        if self._disconnect is None:
            kind = "websocket.disconnect"
            self._disconnect = {"type": kind, "code": code, "reason": reason}
            self._wake()

    def disconnected(self, code: int, reason: str = "") -> None:
        """Tell the app, and take nothing more of it."""
        if self.state < CLOSING:
            self.state = CLOSED
        self.tell(code, reason)
        self._handshake.leave()
        self.open_gate()

    def open_gate(self) -> None:
        """Let `send()` go on."""
        if self._gate is not None:
            self._gate.set()
            self._gate = None

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


_WHEN = {
    CONNECTING: "before the WebSocket is accepted",
    DENYING: "within the response that denies the WebSocket",
    OPEN: "while the WebSocket is open",
}
