"""A request for a WebSocket: an HTTP request whose good answer is 101.

Rule: until the app accepts it, what holds for other requests holds for it: trust,
limits, `request_timeout`, the drain; and a denial is an ordinary response. Afterwards
the connection belongs to the WebSocket; here only its access record remains to be made.
"""

from __future__ import annotations

import asyncio
import binascii
import hashlib
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from typing import Any

from ..app.disconnect import is_websocket_disconnect
from .connection import Connection
from .cycle import Cycle
from .head import Header, compose, fault
from .reading import HIGH_WATER
from .receiving import Message
from .refusal import Refusal

SPEC_VERSION = "2.5"  # of ASGI WebSocket: a disconnect has a reason
SCHEMES = {"http": "ws", "https": "wss"}

# RFC 6455 sections 4.2.1 and 4.2.2
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
VERSION = b"13"
KEY_SIZE = 16  # bytes, behind the base64

SWITCHING = 101
NORMAL, ABNORMAL, INTERNAL_ERROR = 1000, 1006, 1011  # close codes

# Fields of the answer that the server sets; an app cannot.
UPGRADE = (b"upgrade", b"websocket")
OURS = frozenset((b"connection", b"upgrade", b"sec-websocket-accept"))
_OF_A_BODY = (b"content-length", b"transfer-encoding")


def take(connection: Connection, rest: bytes) -> None:
    """Serve the request for a WebSocket whose head *connection* has just read.

    Args:
        connection: one without a request in flight.
        rest: bytes that arrived behind the head.

    Raises:
        Refusal: the handshake is malformed.

    """
    accept = _check(connection.headers)
    cycle = connection.admit("GET", "1.1", keep_alive=False)
    scope = cycle.scope
    del scope["method"]
    scope["type"] = "websocket"
    scope["asgi"] = {**scope["asgi"], "spec_version": SPEC_VERSION}
    scope["scheme"] = SCHEMES[scope["scheme"]]
    scope["subprotocols"] = _listed(connection.headers, b"sec-websocket-protocol")
    tls = (connection.extensions or {}).get("tls")
    scope["extensions"] = {} if tls is None else {"tls": tls}
    scope["extensions"]["websocket.http.response"] = {}
    handshake = Handshake(connection, cycle, accept, rest)
    connection.divert(handshake)
    connection.serve(handshake)


def _check(headers: list[Header]) -> bytes:
    """Return the answer to the client's key."""
    versions, keys = (
        [value for name, value in headers if name == wanted]
        for wanted in (b"sec-websocket-version", b"sec-websocket-key")
    )
    if versions != [VERSION]:
        version = (b"sec-websocket-version", VERSION)
        raise Refusal(426, "another version of WebSocket", version, UPGRADE)
    if any(name in _OF_A_BODY and value != b"0" for name, value in headers):
        raise Refusal(400, "a handshake with a body")
    if len(keys) != 1 or not _is_key(keys[0]):
        raise Refusal(400, "a bad Sec-WebSocket-Key")
    digest = hashlib.sha1(keys[0] + GUID, usedforsecurity=False).digest()
    return b64encode(digest)


def _is_key(value: bytes) -> bool:
    try:
        return len(b64decode(value, validate=True)) == KEY_SIZE
    except binascii.Error:
        return False


def _listed(headers: list[Header], wanted: bytes) -> list[str]:
    """Return the elements of a field that is a list: RFC 9110 section 5.6.1."""
    values = b",".join(value for name, value in headers if name == wanted)
    names = (name.strip() for name in values.decode("latin-1").split(","))
    return [name for name in names if name]


class Handshake(Cycle):
    """The request for a WebSocket, and what the WebSocket needs of HTTP.

    Args:
        connection: the one that the request came by.
        cycle: the same request, as `admit` returned it.
        accept: the answer to the client's key.
        rest: bytes that arrived behind the head.

    """

    connection: Connection

    __slots__ = ("_accept", "_early", "_websocket")

    def __init__(
        self, connection: Connection, cycle: Cycle, accept: bytes, rest: bytes
    ) -> None:
        super().__init__(connection, cycle.scope, False)
        self.refusal = cycle.refusal
        self.more_body = False
        if connection.service.timed:
            self.target, self.started = cycle.target, cycle.started
        self._accept = accept
        self._early = rest
        websockets = connection.service.websockets
        # None once it is lost or denied, or the two would hold each other.
        self._websocket: Any = websockets.open(cycle.scope["headers"], self)

    # -- what the connection does with it

    @property
    def receive(self) -> Callable[[], Awaitable[Message]]:  # type: ignore[override]
        """The WebSocket's."""
        return self._websocket.receive  # type: ignore[no-any-return]

    @property
    def send(self) -> Callable[[Message], Awaitable[None]]:  # type: ignore[override]
        """The WebSocket's."""
        return self._websocket.send  # type: ignore[no-any-return]

    async def run(self, app: Callable[..., Awaitable[object]]) -> None:
        """Run the *app*, and close what it leaves open."""
        websocket = self._websocket
        await super().run(app)
        websocket.finish(NORMAL)
        if self.status != SWITCHING:
            self._websocket = None

    def feed_data(self, data: bytes) -> None:
        """Keep what a client sends before it is answered: takes the parser's place."""
        self._early += data
        if len(self._early) > HIGH_WATER:
            self.connection.pause_reading()

    def disconnect(self, *, lost: bool) -> None:
        """Tell the app that the client leaves, or that it is *lost*."""
        super().disconnect(lost=lost)
        if lost:
            self._websocket.disconnected(ABNORMAL)
        else:
            self._websocket.tell(ABNORMAL)

    # -- what the WebSocket does with it

    def open(self, headers: list[Header]) -> tuple[asyncio.Transport, bytes]:
        """Answer 101 with *headers*; return the transport, and what arrived early."""
        connection = self.connection
        theirs = [pair for pair in headers if pair[0].lower() not in OURS]
        accept = (b"sec-websocket-accept", self._accept)
        answer = [UPGRADE, (b"connection", b"upgrade"), accept, *theirs]
        defaults = connection.service.default_lines()
        try:
            head, *_ = compose(SWITCHING, answer, defaults, False, True, True)
        except Exception as error:
            why = fault(SWITCHING, answer) or error
            raise RuntimeError(f"{self._name()} cannot be accepted: {why}.") from error
        self.status, self.headers, self.complete = SWITCHING, answer, True
        transport, early = connection.transport, self._early
        self._early = b""
        connection.resume_reading()
        connection.cycle = None
        connection.release()
        connection.server_state.connections.add(self._websocket)
        if connection.service.tally is not None:
            connection.service.tally.websockets += 1
        transport.set_protocol(self._websocket)
        transport.write(head)
        return transport, early

    async def respond(self, message: Message) -> None:
        """Take one `http.response.*`.

        Raises:
            RuntimeError: it would be taken for the answer to the handshake.

        """
        if message.get("status") == SWITCHING:
            raise RuntimeError(f"{self._name()} is accepted by websocket.accept only.")
        await super().send(message)

    def forbid(self) -> None:
        """Answer 403."""
        self.connection.abandon(self, Refusal(403))

    def leave(self) -> None:
        """Note that nothing more can be sent."""
        self.lost = True

    def log_failure(self, code: int, reason: str) -> None:
        """Log why a connection was failed, but not every time if that is often."""
        self.connection.log_refusal(Refusal(code, reason, text=reason), "a message")

    def end(self, websocket: Any, sent: int) -> None:
        """Record the lost connection; *sent* bytes of messages went out."""
        connection = self.connection
        connection.server_state.connections.discard(websocket)
        if connection.service.tally is not None:
            connection.service.tally.websockets -= 1
        connection.server_state.total_requests += 1
        self.sent, self._websocket = sent, None
        connection.report(self)
        grace = connection.limits.disconnect_grace
        if grace is not None and self.task is not None:
            connection.loop.call_later(grace, self.task.cancel)

    # -- how it ends

    def _failed(self, error: BaseException) -> None:
        if self.lost and is_websocket_disconnect(error):
            return
        super()._failed(error)
        if self._websocket is not None:
            self._websocket.finish(INTERNAL_ERROR)

    def _name(self) -> str:
        return f"the WebSocket {self.scope['path']!r}"
