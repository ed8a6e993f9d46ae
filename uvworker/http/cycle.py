"""One ASGI request and its response.

Here is what an app can do and what it is told: `receive`, `send`, and how its errors
end. Framing and limits are the connection's. Two rules: nothing goes out before the
first body message, so that head and body are one write, but for the head of a stream,
whose body may be late; and once a response has started, a failure cuts the connection,
as the client could not tell it otherwise.

Source: ASGI HTTP specification 2.4.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from .refusal import Refusal
from .responsehead import Header, compose

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .answering import Answering

Message = dict[str, Any]

logger = logging.getLogger("uvicorn.error")

DISCONNECT = "http.disconnect"

# Bytes of body beyond which head and body are two writes: copying more costs more
# than the second entry in the transport's queue.
ONE_WRITE = 65536


class ClientDisconnected(OSError):  # noqa: N818 - uvicorn's name for the same
    """Raised by `send()` after the client has left: ASGI HTTP 2.4."""


class Cycle:
    """One request and its response, from the end of the head on.

    Slots, all filled at once: reading a default from the class costs more, on the
    dozen occasions that a request has, than setting them all.

    Args:
        connection: the protocol instance that the request came by.
        scope: the ASGI scope.
        keep_alive: the request allows another one after it.

    """

    # Filled only where there is an access record to be made
    target: bytes  # as asked for
    started: float  # seconds on the loop's clock

    __slots__ = (
        "begun",
        "buffered",
        "chunked",
        "chunks",
        "chunks_understood",
        "complete",
        "connection",
        "continued",
        "gone",
        "head",
        "head_only",
        "headers",
        "keep_alive",
        "length",
        "lost",
        "more_body",
        "news",
        "over",
        "received",
        "refusal",
        "scope",
        "sent",
        "started",
        "status",
        "target",
        "task",
        "whole",
    )

    def __init__(
        self, connection: Answering, scope: dict[str, Any], keep_alive: bool
    ) -> None:
        self.connection = connection
        self.scope = scope
        self.keep_alive = keep_alive

        # The request
        self.chunks: Sequence[bytes] = ()  # of body, not yet given to the app
        self.buffered = 0  # bytes in them
        self.received = 0  # bytes of body so far
        self.more_body = True  # on the wire
        self.whole = False  # the app has been given the last of the body
        self.continued = False  # the app asked for the body, the client was told

        # The client, as it asked: apps may rewrite the scope
        self.head_only = False  # HEAD: no body, whatever the app sends
        self.chunks_understood = True  # HTTP/1.1
        self.gone = False  # receive() says http.disconnect
        self.lost = False  # nothing can be sent any more

        # The response
        self.refusal: Refusal | None = None  # answers in the app's stead
        self.status = 0
        self.headers: Sequence[Header] = ()  # kept only for the access record
        self.head = b""  # composed, and not yet written
        self.length: int | None = 0  # bytes of body owed; None if not known
        self.chunked = False
        self.sent = 0  # bytes of body, without chunk framing
        self.complete = False

        # The app
        self.task: asyncio.Task[None] | None = None
        self.begun = False
        self.over = False
        self.news: asyncio.Event | None = None  # only once receive() has had to wait

    # -- what the connection does with it

    async def run(self, app: Callable[..., Awaitable[object]]) -> None:
        """Run the *app*, and end what it left."""
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
        if self.news is not None:
            self.news.set()

    def disconnect(self, *, lost: bool) -> None:
        """Tell the app that the client leaves, or is *lost* already."""
        self.gone = True
        self.lost = self.lost or lost
        self.wake()

    def flush(self) -> None:
        """Write a head whose body is late."""
        if self.head and not self.lost:
            head, self.head = self.head, b""
            self.connection.transport.write(head)

    # -- what the app does with it

    async def receive(self) -> Message:
        """Return the next `http.request`, or `http.disconnect`."""
        while not (self.chunks or self.gone or self.complete):
            if not (self.more_body or self.whole):
                break
            await self._wait()
        if self.gone or self.complete:
            return {"type": DISCONNECT}
        body = b"".join(self.chunks)
        self.chunks, self.buffered = (), 0
        self.whole = not self.more_body
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Message) -> None:
        """Take one event of the response, when the transport can.

        Raises:
            ClientDisconnected: the client has left, or was refused meanwhile.
            RuntimeError: the event is out of order or would break the framing.

        """
        gate = self.connection.gate
        if gate is not None and not self.lost:
            await gate.wait()
        if self.lost:
            raise ClientDisconnected("The client has left.")
        if not self.status:
            self._start(message)
        elif not self.complete:
            self._body(message)
        else:
            raise RuntimeError(
                f"Unexpected ASGI message '{message['type']}' sent, "
                "after response already completed."
            )

    # -- receive

    async def _wait(self) -> None:
        self.connection.resume_reading()
        if self.more_body and not self.status and self.awaits_continue():
            self.connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.continued = True
        if self.news is None:
            self.news = asyncio.Event()
        self.news.clear()
        await self.news.wait()

    def awaits_continue(self) -> bool:
        """Tell whether the client may be holding its body back: RFC 9110 10.1.1."""
        return (
            not (self.continued or self.received)
            and self.chunks_understood
            and any(
                name == b"expect" and value.lower() == b"100-continue"
                for name, value in self.scope["headers"]
            )
        )

    # -- send

    def _start(self, message: Message) -> None:
        if message["type"] != "http.response.start":
            raise RuntimeError(
                "Expected ASGI message 'http.response.start', "
                f"but got '{message['type']}'."
            )
        # First of all: a response that began wrong is cut, like one that went wrong.
        self.status = status = message["status"]
        connection = self.connection
        service = connection.service
        headers = message.get("headers", ())
        if service.record is not None:
            self.headers = headers = list(headers)
        if self.more_body or connection.draining:
            self.keep_alive = self.keep_alive and connection.may_stay(self)
        self.head, self.length, self.chunked, self.keep_alive = compose(
            status,
            headers,
            service.default_lines(),
            self.head_only,
            self.chunks_understood,
            self.keep_alive,
        )
        if self.length is None:
            service.hold(self)

    def _body(self, message: Message) -> None:
        if message["type"] != "http.response.body":
            raise RuntimeError(
                "Expected ASGI message 'http.response.body', "
                f"but got '{message['type']}'."
            )
        body = message.get("body", b"")
        more_body = message.get("more_body", False)
        size = len(body)
        if self.length is None:
            self.sent += size
            if self.chunked:
                body = _chunk(body, size, last=not more_body)
        elif size <= self.length:
            self.sent += size
            self.length -= size
        else:
            body = self._excess()
        head = self.head
        if head and size <= ONE_WRITE:
            self.head = b""
            self.connection.transport.write(head + body)
        else:
            self.flush()
            if body:
                self.connection.transport.write(body)
        if not more_body:
            if self.length:
                raise RuntimeError("Response content shorter than Content-Length")
            self.complete = True
            if self.news is not None:
                self.news.set()
            self.connection.answered(self)

    def _excess(self) -> bytes:
        if self.head_only:
            return b""
        raise RuntimeError("Response content longer than Content-Length")

    # -- how it ends

    def _failed(self, error: BaseException) -> None:
        if self.lost and _is_departure(error):
            return
        if isinstance(error, asyncio.CancelledError):
            logger.warning("Cancelled %s.", self._name())
            refusal = Refusal(503)
        else:
            logger.error("Exception in ASGI application\n", exc_info=error)
            refusal = Refusal(500)
        self._give_up(refusal)

    def _returned(self, result: object) -> None:
        if result is not None:
            logger.error("ASGI callable should return None, but returned '%s'.", result)
        if self.complete or self.lost:
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


def _chunk(body: bytes, size: int, *, last: bool) -> bytes:
    """Write a chunk, and the end of the body behind the *last*: RFC 9112 7.1."""
    chunk = b"%x\r\n%b\r\n" % (size, body) if size else b""
    return chunk + b"0\r\n\r\n" if last else chunk


def _is_departure(error: BaseException | None) -> bool:
    """Tell whether *error* only says that the client left, in whatever wrapping.

    Frameworks turn the `OSError` of `send()` into errors of their own, and task
    groups into groups; a server that logged each would fill its log with clients.
    """
    while error is not None:
        if isinstance(error, (ClientDisconnected, asyncio.CancelledError)):
            return True
        group = getattr(error, "exceptions", None)
        if group:
            return all(_is_departure(each) for each in group)
        error = error.__cause__ or error.__context__
    return False
