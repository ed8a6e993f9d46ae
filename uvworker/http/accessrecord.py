"""What is known of a request once it has been answered.

An `AccessRecord` is all that the access log, statsd, the per-request hooks and
the scoreboard ever learn of a request: whoever answers builds one, whoever
counts or writes takes one. The rule of this room: a record holds what the
protocol had in its hands anyway; all that costs something is computed when
asked for.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote_to_bytes

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

PERCENT = ord("%")


# Not frozen: the frozen constructor costs 1.3 µs more, on every request.
@dataclass(slots=True)
class AccessRecord:
    """One answered request, refused ones and closed WebSockets included.

    Args:
        scope: The ASGI scope that the app saw. For a refused request a partial
            one, its values empty where the parser had not come to them.
        peer: `(host, port)` of the connection, after the PROXY protocol, before
            `X-Forwarded-For`; None on a unix socket.
        status: The status sent; 101 for an accepted WebSocket.
        headers: The response headers as sent, the server's own included.
        sent: Bytes of body, without chunked framing; of a WebSocket the bytes
            of its messages.
        duration: Seconds from the request's head to the end of the response.
        target: The request target as received (RFC 9112 section 3.2). Empty if
            the protocol has not kept it: then it is put together again from
            the scope, without an empty query's `?` or an absolute form.

    """

    scope: Scope
    peer: tuple[str, int] | None
    status: int
    headers: list[tuple[bytes, bytes]]
    sent: int
    duration: float
    target: bytes = b""
    _fields: dict[bytes, bytes] | None = field(default=None, init=False, repr=False)

    @classmethod
    def begun(cls, scope: Scope) -> AccessRecord:
        """Return the record of a request that comes to the app just now.

        Its target is taken at once, as frameworks write into the scope, and
        without the root path, which uvicorn prepends and no client sent. The
        status is what a protocol answers for an app that never does.
        """
        target = _target_of(scope, scope.get("root_path", ""))
        return cls(scope, scope.get("client"), 500, [], 0, 0.0, target)

    def field(self, name: bytes) -> bytes | None:
        """Return the request header `name` (lower case), the last of several."""
        if self._fields is None:
            self._fields = dict(self.scope.get("headers") or ())
        return self._fields.get(name)

    @property
    def method(self) -> str:
        """The method; GET for a WebSocket (RFC 6455), empty if never read."""
        return self.scope.get("method", "GET") or ""

    @property
    def protocol(self) -> str:
        """The protocol as CGI names it, `HTTP/1.1`."""
        return f"HTTP/{self.scope.get('http_version') or '1.1'}"

    def request_target(self) -> bytes:
        """Return the request target, from the scope if nobody kept it."""
        return self.target or _target_of(self.scope)

    def path(self) -> str:
        """Return the decoded path that the client asked for.

        Not `scope["path"]`: a root path is prepended to it, and frameworks
        rewrite it on the way to a mounted app.
        """
        path = self.request_target().partition(b"?")[0]
        if path[:1] != b"/" and b"://" in path:  # absolute form
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
        if PERCENT in path:
            path = unquote_to_bytes(path)
        return path.decode("utf-8", "replace")

    def query(self) -> str:
        """Return the query string as received, empty if there is none."""
        return self.request_target().partition(b"?")[2].decode("latin-1")

    def microseconds(self) -> int:
        """Return the duration in whole microseconds."""
        return int(self.duration * 1_000_000)


Recorder = Callable[[AccessRecord], None]
"""Takes each record once, at the end of its response; never raises."""


def _target_of(scope: Scope, root_path: str = "") -> bytes:
    """Put the request target together again, less a `root_path` of the server's."""
    path: bytes = scope.get("raw_path") or _quoted(scope.get("path", ""))
    path = path.removeprefix(root_path.encode())
    query: bytes = scope.get("query_string") or b""
    return path + b"?" + query if query else path


def _quoted(path: str) -> bytes:
    return quote(path, errors="replace").encode()  # a surrogate must not raise


def together(*recorders: Recorder | None) -> Recorder | None:
    """Return one recorder that feeds all those given, None if there are none."""
    wanted = [recorder for recorder in recorders if recorder is not None]
    if len(wanted) <= 1:
        return wanted[0] if wanted else None

    def record(record: AccessRecord) -> None:
        for recorder in wanted:
            recorder(record)

    return record


class Recorded:
    """An ASGI app that records what another one answers.

    For the connections that are not our protocol's: WebSockets, HTTP/2, and
    all of HTTP under a protocol class of somebody else's. Must be around
    whatever reads the proxy's headers: `scope["client"]` is then the peer.

    What the protocol refuses by itself never reaches an app, and the headers
    that it adds are not seen here.

    Args:
        app: The ASGI 3 app to wrap.
        record: Called once for each request, when the app is done with it.
        types: The scope types to record; others pass at the cost of one look.

    """

    def __init__(self, app: ASGIApp, record: Recorder, types: tuple[str, ...]) -> None:
        self._app = app
        self._record = record
        self._types = types

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return the app's own awaitable where there is nothing to record."""
        if scope["type"] not in self._types:
            return self._app(scope, receive, send)
        return self._watch(scope, receive, send)

    async def _watch(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.monotonic()
        bodiless = scope.get("method") == "HEAD"
        record = AccessRecord.begun(scope)

        async def watched(message: Message) -> None:
            await send(message)
            _note(record, message, bodiless=bodiless)

        try:
            await self._app(scope, receive, watched)
        finally:
            record.duration = time.monotonic() - started
            self._record(record)


_STARTS = ("http.response.start", "websocket.http.response.start")
_BODIES = ("http.response.body", "websocket.http.response.body")
_WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
_UPGRADED = HTTPStatus.SWITCHING_PROTOCOLS.value


def _note(record: AccessRecord, message: Message, *, bodiless: bool) -> None:
    """Add to `record` what one message of the app's has sent."""
    kind = message["type"]
    if kind in _BODIES:
        if not bodiless and record.status not in _WITHOUT_BODY:
            record.sent += len(message.get("body", b""))
    elif kind == "websocket.send":
        text = message.get("text")
        payload = message.get("bytes") or b"" if text is None else text.encode()
        record.sent += len(payload)
    elif kind in _STARTS:
        record.status = message["status"]
        record.headers = list(message.get("headers", ()))
    elif kind == "websocket.accept":
        record.status = _UPGRADED
        record.headers = list(message.get("headers", ()))
    elif kind == "websocket.close" and record.status != _UPGRADED:
        record.status = HTTPStatus.FORBIDDEN.value  # closed before it was accepted
