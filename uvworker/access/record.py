"""The record of an answered request.

An `AccessRecord` is the input of the access log, statsd, the per-request hooks and
the counts. A protocol makes one for each request that it answers. The rule of this
room: a record holds what the protocol has anyway; whatever costs something is
computed only when it is read.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import quote, unquote_to_bytes

from ..app.asgi import ASGIApp, Message, Receive, Scope, Send

PERCENT = ord("%")


# Not frozen: the frozen constructor costs 1.3 µs more, on every request.
@dataclass(slots=True)
class AccessRecord:
    """One answered request, or refused request, or closed WebSocket.

    Args:
        scope: The ASGI scope that the app got. For a refused request a partial
            one: values that the parser did not reach are empty.
        peer: `(host, port)` of the connection, after the PROXY protocol, before
            `X-Forwarded-For`; None on a unix socket.
        status: The status sent; 101 for an accepted WebSocket.
        headers: The response headers as sent, the server's own included.
        sent: Bytes of body, without chunked framing; for a WebSocket the bytes
            of its messages.
        duration: Seconds from the request's head to the end of the response.
        target: The request target as received (RFC 9112 section 3.2). Empty if
            the protocol has not kept it: then it is composed from the scope,
            without an empty query's `?` or an absolute form.

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
        """Return the record of a request that is about to reach the app.

        Its target is composed now, because frameworks modify the scope, and without
        the root path, which uvicorn prepends and no client sends. The status is what
        a protocol answers if the app does not.
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
        """Return the request target, composed from the scope if it was not kept."""
        return self.target or _target_of(self.scope)

    def path(self) -> str:
        """Return the decoded path that the client asked for.

        Not `scope["path"]`: a root path is prepended to it, and frameworks
        rewrite it for a mounted app.
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
    """Return one recorder that calls all those given, None if there are none."""
    wanted = [recorder for recorder in recorders if recorder is not None]
    if len(wanted) <= 1:
        return wanted[0] if wanted else None

    def record(record: AccessRecord) -> None:
        for recorder in wanted:
            recorder(record)

    return record


class Recorded:
    """An ASGI app that records what another one answers.

    For requests that our HTTP/1.1 protocol does not serve: uvicorn's WebSockets,
    HTTP/2, and all HTTP with another protocol class. It must wrap the middleware
    that reads the proxy's headers, so that `scope["client"]` is the peer.

    Requests that the protocol itself refuses, and headers that it adds, are not
    recorded.

    Args:
        app: The ASGI 3 app to wrap.
        record: Called once for each request, when the app has returned.
        types: The scope types to record; others cost one comparison.
        wanted: Called at each request; returns whether `record` is wanted. None
            if it always is.

    """

    def __init__(
        self,
        app: ASGIApp,
        record: Recorder,
        types: tuple[str, ...],
        wanted: Callable[[], bool] | None = None,
    ) -> None:
        self._app = app
        self._record = record
        self._types = types
        self._wanted = wanted

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return the app's own awaitable where there is nothing to record."""
        if scope["type"] not in self._types or (self._wanted and not self._wanted()):
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
    """Add to `record` what one message of the app sends."""
    kind = message["type"]
    if kind in _BODIES:
        if not bodiless and record.status not in _WITHOUT_BODY:
            record.sent += memoryview(message.get("body", b"")).nbytes
    elif kind == "websocket.send":
        text = message.get("text")
        payload = message.get("bytes") or b"" if text is None else text.encode()
        record.sent += len(payload)
    elif kind in _STARTS:
        record.status = int(message["status"])
        record.headers = list(message.get("headers", ()))
    elif kind == "websocket.accept":
        record.status = _UPGRADED
        record.headers = list(message.get("headers", ()))
    elif kind == "websocket.close" and record.status != _UPGRADED:
        record.status = HTTPStatus.FORBIDDEN.value  # closed before it was accepted
