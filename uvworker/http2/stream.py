"""One request over HTTP/2, and its response: a stream (RFC 9113 section 5).

Rule: what an app may do and gets is `Cycle`'s; here is what goes to the wire
instead, in frames of zttp's, and how the app waits for the stream's own window.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

from ..http.cycle import Cycle
from ..http.deadlines import NEVER
from ..http.extensions import EARLY_HINT, TRAILERS, check_trailers
from ..http.head import BODILESS, CONTROLS, NAMES, OF_A_CONNECTION, UNFRAMED, Header
from ..http.receiving import Message
from ..http.service import Service

FINAL = 200  # the lowest status of a response that is no head in front of the head

# Bytes that wait for the client's window before the app has to, and bytes of body that
# wait for the app before the client has to: as many as over HTTP/1.1.
HIGH_WATER = 65536


class Link(Protocol):
    """The connection of a stream, as far as the stream uses it beyond `Carrier`."""

    service: Service

    def flush_soon(self, size: int = 0) -> None:
        """Write what is queued, now or at the end of this turn of the loop."""

    def grant(self, stream: Stream) -> None:
        """Let the client send more of the body."""

    def await_window(self, stream: Stream) -> None:
        """Cut *stream* off if its client takes nothing for long."""

    def overdue(self, stream: Stream) -> None:
        """Act on a deadline of *stream*."""


class Stream(Cycle):
    """One request; its app's task is started by the connection.

    Args:
        link: the connection.
        scope: the ASGI scope.
        wire: zttp's handle of the stream.

    """

    __slots__ = (
        "credit",
        "deadline",
        "ended",
        "link",
        "room",
        "stalled",
        "trailing",
        "unacknowledged",
        "wire",
    )

    def __init__(self, link: Any, scope: dict[str, Any], wire: Any) -> None:
        super().__init__(link, scope, True)
        self.link: Link = link
        self.wire = wire
        self.head_only = scope["method"] == "HEAD"
        self.deadline = self.stalled = NEVER  # turns of the clock
        self.credit = 0  # bytes of window that the client is not yet given
        self.room: asyncio.Event | None = None  # send() waits for the client's window
        self.trailing: list[Header] | None = None  # trailers, if the app announced any
        self.unacknowledged = 0  # bytes, when the client's window was last looked at
        self.ended = False  # the body is; the trailers are still to come

    # -- what the connection does with it

    @property
    def lingers(self) -> bool:
        """Tell whether the response is out, and its client may still end the body."""
        return self.complete and self.deadline < NEVER

    def feed(self, body: bytes) -> None:
        """Take a piece of the request's body; the next one has its own time."""
        super().feed(body)
        if self.room is None:  # else the client's window has a deadline already
            self._await_body()

    def _await_body(self) -> None:
        """Give the next piece its time, if its client may send it."""
        service = self.link.service
        waits = self.more_body and self.buffered <= HIGH_WATER
        self.stalled = service.clock.turn + service.body_turns if waits else NEVER

    def end_body(self) -> None:
        """Take the end of the request's body."""
        self.more_body = False
        if self.room is None and not self.complete:
            self.stalled = NEVER
        self.wake()

    def disconnect(self, *, lost: bool) -> None:
        """Tell the app that the client leaves; who waits in `send()` learns of it."""
        super().disconnect(lost=lost)
        if lost:
            self.open_room()

    def flush(self) -> None:
        """Let the head go out, and not wait for the body."""
        if not self.lost:
            self.link.flush_soon()

    def has_room(self) -> bool:
        """Tell whether what waits for the client's window is little."""
        return (self.wire.pending_bytes or 0) <= HIGH_WATER

    def open_room(self) -> None:
        """Let `send()` go on, in every task of the app's that waits in it."""
        if self.room is not None:
            self.room.set()
            self.room = None
            self._await_body()

    def expire(self) -> None:
        """Act on a deadline that has passed."""
        self.link.overdue(self)

    # -- what the app does with it

    async def receive(self) -> Message:
        """Return the next `http.request`, and let the client send the one behind."""
        message = await super().receive()
        if self.credit and not (self.lost or self.complete):
            self.link.grant(self)
            if self.room is None:
                self._await_body()
        return message

    async def send(self, message: Message) -> None:
        """Take one event of the response, when the client has a window for it."""
        while not (self.lost or self.has_room()):
            await self._wait_for_room()
        if message["type"] == EARLY_HINT:
            self._hint(message["links"])
        else:
            await super().send(message)

    async def extend(self, message: Message) -> None:
        """Take an event of a response that has trailers."""
        if self.trailing is None:
            await super().extend(message)
        else:
            self._body(message)

    async def _wait_for_room(self) -> None:
        if self.room is None:
            self.room = asyncio.Event()
            self.link.await_window(self)
        await self.room.wait()

    def _continue(self) -> None:
        self.wire.send_informational(100)
        self.flush()

    def _hint(self, links: Iterable[bytes]) -> None:
        """Send a head in front of the head; once that is out, it is late."""
        if not (self.lost or self.status):
            self.wire.send_informational(103, [(b"link", link) for link in links])
            self.flush()

    def _compose(self, status: int, headers: Iterable[Header]) -> None:
        defaults = self.link.service.server_state.default_headers
        fields, length = fields_of(headers, defaults)
        if status < FINAL:  # the client would wait for another head
            raise ValueError(f"the status {status} is no final one")
        if length is not None and status not in UNFRAMED:
            fields.append((b"content-length", b"%d" % length))
        bodiless = self.head_only or status in BODILESS
        self.wire.send_response(status, fields)
        self.length = 0 if bodiless else length

    def _start(self, message: Message) -> None:
        super()._start(message)
        if message.get("trailers") and not self.complete:
            self.trailing = []

    def _body(self, message: Message) -> None:
        if self.ended:
            self._trailers(message)
            return
        expect("http.response.body", message)
        body = message.get("body", b"")
        if type(body) is not bytes:
            body = self.copied(body)
        size = len(body)
        if self.length is not None:
            if size > self.length:
                self._exceed()
                return
            self.length -= size
        self.sent += size
        if body:
            self.wire.send_data(body)
        if message.get("more_body", False):
            self.link.flush_soon(size)
        elif self.length:
            raise RuntimeError("Response content shorter than Content-Length")
        elif self.trailing is None:
            self.finish()
        else:
            self.ended = True

    def _trailers(self, message: Message) -> None:
        expect(TRAILERS, message)
        assert self.trailing is not None
        headers = list(message.get("headers", ()))
        check_trailers(headers)
        fields, _ = fields_of(headers, ())
        if TRAILERS in self.scope["extensions"] and self.status not in BODILESS:
            self.trailing += fields
        if not message.get("more_trailers", False):
            self.finish()


def expect(kind: str, message: Message) -> None:
    """Raise what an event out of order means to an app."""
    if message["type"] != kind:
        raise RuntimeError(
            f"Expected ASGI message '{kind}', but got '{message['type']}'."
        )


def fields_of(
    headers: Iterable[Header], defaults: Iterable[Header]
) -> tuple[list[Header], int | None]:
    """Return the fields of a head, and the length that the app says its body has.

    Args:
        headers: the app's, of any case, those of a connection among them.
        defaults: the server's own; `server` and `date` of the app's replace them.

    Raises:
        Exception: a name or a value would not arrive as it was meant.

    """
    fields: list[Header] = []
    length: bytes | None = None
    for written, value in headers:
        name = NAMES[written][2:-2]  # as it is between a line's end and its colon
        if type(value) is not bytes:
            value = memoryview(value).tobytes()  # noqa: PLW2901 - the same, as it is now
        if value.translate(None, CONTROLS) != value:
            raise ValueError("a value has a control character")
        if name == b"content-length":
            if not value.isdigit() or length not in (None, value):
                raise ValueError("content-length is no number, or is two")
            length = value
        elif name not in OF_A_CONNECTION:
            fields.append((name, value.strip(b" \t")))
    named = {name for name, _ in fields}
    ours = [field for field in defaults if field[0] not in named]
    return ours + fields, None if length is None else int(length)
