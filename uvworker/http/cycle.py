"""One ASGI request and its response.

Here are `send` and what an app's errors do; `receive` is in `receiving`. Order, limits
and deadlines belong to the connection. Two rules: the head waits for the first piece of
the body, so that both are one write; but that of a stream waits no longer than one turn
of the loop, and none longer than one of the clock. And once the head is out, an
exception cuts the connection, as there is no other way to tell the client; until then
the client gets a 500.

Source: ASGI HTTP specification 2.3, as in uvicorn: `send()` does nothing once the
client has left. In 2.4 it raises, and if a server announces 2.4, Starlette no longer
waits for the disconnect: background tasks are lost, and silent streams never end.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from ..app.disconnect import ClientDisconnected, caused_by_disconnect
from ..app.pauses import pause
from .head import BODILESS, Header, compose, fault
from .receiving import Message, Receiving, Source
from .refusal import Refusal
from .service import Service

logger = logging.getLogger("uvicorn.error")

START = "http.response.start"
BODY = "http.response.body"
TRAILED = "http.response.body with trailers behind it"

LINE_END = b"\r\n"
LAST_CHUNK = b"0\r\n\r\n"  # RFC 9112 section 7.1

# Bytes of body up to which a copy, with what frames it, costs less than to hand over
# three pieces; and less than three writes, where a transport cannot gather them.
COPIED = 8192
JOINED = 65536

# Events that an app may send after its client has left, before the loop turns.
IGNORED_AT_ONCE = 32


class Carrier(Source, Protocol):
    """The connection that a request came by, as far as the request uses it.

    It reads within limits, and answers its requests in order.
    """

    service: Service
    scheme: str  # "https" if it has TLS
    draining: bool  # it closes soon: a response announces that
    gathers: bool  # `transport.writelines()` is one write without a copy

    def may_stay(self, cycle: Cycle) -> bool:
        """Return whether the connection stays open after the response to *cycle*."""

    def answered(self, cycle: Cycle) -> None:
        """Go on with the next request: the response is complete."""

    def abandon(self, cycle: Cycle, refusal: Refusal) -> None:
        """End a response that the app does not end: send *refusal*, or cut it off."""

    def client_left(self) -> bool:
        """Return whether the client has sent its end; if so, reset the connection."""


class Cycle(Receiving):
    """One request and its response, from the end of the head on.

    All slots are filled at once: a request reads defaults a dozen times, and to read
    them from the class costs more than to set them all.

    Args:
        connection: the one that the request came by.
        scope: the ASGI scope.
        keep_alive: the request allows another one on the connection.

    """

    connection: Carrier

    # Filled only if the request is recorded or counted
    target: bytes  # as on the wire
    started: (
        float  # time.monotonic(): a loop's own clock has milliseconds, and is slower
    )
    # Filled once there is one
    ignored: int  # events of the app, after the client has left

    __slots__ = (
        "begun",
        "chunked",
        "expected",
        "head",
        "head_only",
        "headers",
        "ignored",
        "keep_alive",
        "length",
        "over",
        "refusal",
        "sent",
        "started",
        "target",
        "task",
    )

    def __init__(
        self, connection: Carrier, scope: dict[str, Any], keep_alive: bool
    ) -> None:
        self.connection = connection
        self.scope = scope
        self.keep_alive = keep_alive

        # The request, as `Receiving` describes it
        self.chunks = ()
        self.buffered = self.received = 0
        self.more_body = True
        self.whole = self.continued = False
        self.chunks_understood = True
        self.gone = self.lost = False
        self.changed = None

        # The response
        self.head_only = False  # HEAD: the body that the app sends is dropped
        self.refusal: Refusal | None = None  # sent instead of the app's response
        self.status = 0
        self.headers: Sequence[Header] = ()  # kept only for the access record
        self.head = b""  # composed, and not yet written
        self.length: int | None = 0  # bytes of body owed; None if not known
        self.chunked = False
        self.sent = 0  # bytes of body, without chunk framing
        self.complete = False
        self.expected = START  # the type of the app's next message

        # The app
        self.task: asyncio.Task[None] | None = None
        self.begun = False
        self.over = False

    # -- what the connection does with it

    async def run(self, app: Callable[..., Awaitable[object]]) -> None:
        """Run *app*; if it fails or returns early, end the response."""
        self.begun = True
        try:
            result = await app(self.scope, self.receive, self.send)
        except BaseException as error:  # noqa: BLE001 - sys.exit() ends a request only
            self._failed(error)
        else:
            if result is not None or not self.complete:
                self._returned(result)
        finally:
            self.over = True
            self.connection.service.tasks.discard(self.task)

    def flush(self) -> None:
        """Write a head that still waits for its body."""
        if self.head and not self.lost:
            head, self.head = self.head, b""
            self.connection.transport.write(head)

    # -- what the app does with it

    async def send(self, message: Message) -> None:
        """Take one event of the response, once the transport can take more.

        It does nothing once the client has left, or once a bodiless response is sent.

        Raises:
            RuntimeError: the event is out of order, or breaks the framing.
            TypeError: the body is not bytes.

        """
        gate = self.connection.gate
        if gate is not None and not self.lost:
            await gate.wait()
        if self.lost:
            await self._ignore()
        elif self.complete:
            raise RuntimeError(
                f"Unexpected ASGI message '{message['type']}' sent, "
                "after response already completed."
            )
        elif message["type"] != self.expected:
            await self.extend(message)
        elif not self.status:
            self._start(message)
        else:
            self._body(message)
            if not self.complete and self.connection.scheme == "https":
                await pause()

    async def extend(self, message: Message) -> None:
        """Take an event that is not the one *expected*."""
        raise RuntimeError(
            f"Expected ASGI message '{self.expected}', but got '{message['type']}'."
        )

    # -- send

    def _start(self, message: Message) -> None:
        connection = self.connection
        service = connection.service
        if self.more_body or connection.draining:
            self.keep_alive = self.keep_alive and connection.may_stay(self)
        status, headers = None, message.get("headers", ())
        try:
            status = message["status"]
            if service.record is not None or type(headers) is not list:
                headers = list(headers)
            self._compose(status, headers)
        except Exception as error:
            why = fault(status, headers) or error
            raise RuntimeError(
                f"The response to {self._name()} cannot be sent: {why}."
            ) from error
        # Set last: as long as no status is set, a 500 can be sent instead.
        self.status, self.headers = status, headers
        self.expected = TRAILED if message.get("trailers") else BODY
        if not self.length:
            self._begin_without_length()

    def _compose(self, status: int, headers: Iterable[Header]) -> None:
        """Take the head, as it goes to the wire; whatever it raises refuses it."""
        self.head, self.length, self.chunked, self.keep_alive = compose(
            status,
            headers,
            self.connection.service.default_lines(),
            self.head_only,
            self.chunks_understood,
            self.keep_alive,
        )

    def _begin_without_length(self) -> None:
        if self.head_only:
            self._end_at_head()
        elif self.length is None:
            self.connection.service.hold(self)

    def _body(self, message: Message) -> None:
        body = message.get("body", b"")
        if type(body) is not bytes:
            body = self.copied(body)
        more_body = message.get("more_body", False)
        size = len(body)
        opening, closing = self.head, b""
        if self.length is None:
            self.sent += size
            if self.chunked:
                if size:
                    opening += b"%x\r\n" % size
                    closing = LINE_END
                if not more_body:
                    closing += LAST_CHUNK
        elif size <= self.length:
            self.sent += size
            self.length -= size
        else:
            self._exceed()
            return
        self.head = b""
        if more_body or size > COPIED:
            self._write(opening, body, closing)
        else:
            self.connection.transport.write(opening + body + closing)
        if not more_body:
            if self.length:
                raise RuntimeError("Response content shorter than Content-Length")
            self.finish()

    def copied(self, body: Any) -> bytes:
        """Return what is in a buffer of the app's, which may change after `send()`."""
        try:
            return memoryview(body).tobytes()
        except TypeError:
            kind = type(body).__name__
            raise TypeError(
                f"The body of the response to {self._name()} is not bytes but {kind}."
            ) from None

    def finish(self) -> None:
        """Complete the response."""
        self.complete = True
        if self.changed is not None:
            self.changed.set()
        self.connection.answered(self)

    def _write(self, opening: bytes, body: bytes, closing: bytes) -> None:
        """Write a piece of a stream, or a large body, between what frames it."""
        connection, size = self.connection, len(body)
        transport = connection.transport
        if connection.gathers and size > COPIED:
            transport.writelines((opening, body, closing))
        elif size <= JOINED:
            transport.write(opening + body + closing)
        else:
            for piece in (opening, body, closing):
                transport.write(piece)
        if transport.is_closing():
            # A write has failed. asyncio reports that only when the loop turns, and a
            # stream that nothing slows down any more never lets the loop turn.
            self.disconnect(lost=True)

    def _exceed(self) -> None:
        if self.status not in BODILESS:
            raise RuntimeError("Response content longer than Content-Length")
        self.connection.service.bodies.warn(
            self.scope["path"], self._name(), self.status
        )
        self._end_at_head()

    def _end_at_head(self) -> None:
        """Complete a response that has no body; a body from the app is ignored."""
        self.flush()
        self.complete = True
        self.disconnect(lost=True)
        self.connection.answered(self)

    async def _ignore(self) -> None:
        """Drop an event whose client has left, and let the loop turn now and then.

        A stream that never pauses by itself cannot be cancelled, does not learn of the
        disconnect, and keeps all others waiting. The loop does not turn at each event:
        a generator is closed if it is cancelled where it waits itself, and not if it is
        cancelled in its reader's `send()`.
        """
        if self.connection.service.raises:
            raise ClientDisconnected("The client has left.")
        self.ignored = ignored = getattr(self, "ignored", 0) + 1
        if ignored % IGNORED_AT_ONCE == 0:
            await asyncio.sleep(0)

    # -- how it ends

    def _failed(self, error: BaseException) -> None:
        if os.getpid() != self.connection.service.pid:
            raise error  # in a process that the app forked: end that process
        if caused_by_disconnect(error) and (self.lost or self.connection.client_left()):
            return
        cancelled = isinstance(error, asyncio.CancelledError)
        if cancelled and self._is_cancelled():
            logger.warning("Cancelled %s.", self._name())
        else:
            logger.error("Exception in ASGI application\n", exc_info=error)
        refusal = Refusal(503 if cancelled else 500)
        if self.head:  # nothing is out yet
            self.head, self.status = b"", 0
        self._give_up(refusal)

    def _is_cancelled(self) -> bool:
        """Tell whether the app itself is cancelled, or something that it awaited."""
        cancelling = getattr(self.task, "cancelling", None)  # not in Python 3.10
        return cancelling is None or cancelling() > 0

    def _returned(self, result: object) -> None:
        if result is not None:
            logger.error("ASGI callable should return None, but returned '%s'.", result)
        if self.complete or self.lost or self.connection.client_left():
            return
        logger.error(
            "ASGI callable returned without %s response.",
            "completing" if self.status else "starting",
        )
        self._give_up(Refusal(500))

    def _give_up(self, refusal: Refusal) -> None:
        if not (self.complete or self.lost):
            self.connection.abandon(self, refusal)

    def _name(self) -> str:
        return f"{self.scope['method']} {self.scope['path']!r}"
