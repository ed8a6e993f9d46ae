"""Requests and responses in the shapes that gunicorn's loggers and hooks expect.

`logger_class`, statsd, `pre_request` and `post_request` were written for
gunicorn's own workers, whose objects differ from one another. What they share
is here: the attributes of `Request` and `Response`, and a WSGI-like environ.

The rule of this room: nothing is built unless a logger or a hook is about to
look at it, and an error of theirs is logged and never reaches the protocol.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from .accessformat import printable, user_of
from .accessrecord import AccessRecord, ASGIApp, Receive, Recorder, Scope, Send

_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Request:
    """A request as hooks and loggers see it; a hook may set attributes of its own.

    Attributes:
        method, uri, path, query: As text. `uri` and `query` as received, `path`
            decoded, as in gunicorn's `asgi` worker.
        fragment: Empty; no fragment travels in a request.
        version: `(1, 1)`.
        headers: `(NAME, value)` in the order received, names in capitals.
        scheme: `http`, `https`, `ws` or `wss`.
        peer_addr, remote_addr: `(host, port)` of the client, or None. In
            `pre_request` as far as its proxies are trusted.

    """

    def __init__(self, record: AccessRecord) -> None:
        self.method = record.method
        self.uri = record.request_target().decode("latin-1")
        self.path = record.path()
        self.query = record.query()
        self.fragment = ""
        major, _, minor = record.protocol[5:].partition(".")
        self.version = int(major), int(minor or 0)
        self.headers = _text_fields(record.scope.get("headers") or (), str.upper)
        self.scheme = record.scope.get("scheme", "http")
        self.peer_addr = self.remote_addr = record.peer


class Response:
    """A response as hooks and loggers see it.

    Attributes:
        status: `200 OK`, as in gunicorn's `sync` worker.
        status_code: 200.
        headers: `(name, value)` as sent.
        sent: Bytes of body.

    """

    def __init__(self, record: AccessRecord) -> None:
        self.status_code = record.status
        self.status = f"{record.status} {_REASONS.get(record.status, 'Unknown')}"
        self.headers = _text_fields(record.headers)
        self.sent = record.sent


def _text_fields(
    fields: Any, name_case: Callable[[str], str] = str
) -> list[tuple[str, str]]:
    return [
        (name_case(name.decode("latin-1")), value.decode("latin-1"))
        for name, value in fields
    ]


class Elapsed(timedelta):
    """A duration whose seconds do not begin anew after a day.

    gunicorn's loggers add up `seconds` and `microseconds`, and a WebSocket may
    well live for days.
    """

    @property
    def seconds(self) -> int:
        """All the whole seconds."""
        return self.days * 86400 + super().seconds


def environ_of(record: AccessRecord, request: Request) -> dict[str, str]:
    """Return the request as a WSGI-like environ, with all that logging reads."""
    environ = {
        "REQUEST_METHOD": request.method,
        "RAW_URI": request.uri,
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query,
        "SERVER_PROTOCOL": record.protocol,
        "REMOTE_ADDR": record.peer[0] if record.peer else "-",
        "wsgi.url_scheme": request.scheme,
    }
    if record.peer:
        environ["REMOTE_PORT"] = str(record.peer[1])
    for name, value in request.headers:
        variable = name.replace("-", "_")
        if variable in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            environ[variable] = value
        environ[f"HTTP_{variable}"] = value
    return environ


def through_logger(access: Callable[..., None], logger: Any) -> Recorder:
    """Return a recorder that calls gunicorn's `access()` with its own shapes.

    Control characters are escaped beforehand, as gunicorn's logger leaves them
    in: no request can forge a line, whatever the `logger_class`.

    Args:
        access: `logger.access`, or that of a base class.
        logger: Where an exception of `access` is reported.

    """

    def record(record: AccessRecord) -> None:
        request, response = Request(record), Response(record)
        request.headers = [(name, printable(text)) for name, text in request.headers]
        response.headers = [(name, printable(text)) for name, text in response.headers]
        environ = environ_of(record, request)
        environ = {name: printable(value) for name, value in environ.items()}
        user = user_of(record.field(b"authorization"))
        if user is not None and not user.isprintable():
            user = b64encode(f"{printable(user)}:".encode()).decode()
            environ["HTTP_AUTHORIZATION"] = f"Basic {user}"
        try:
            access(
                response, request, environ, Elapsed(microseconds=record.microseconds())
            )
        except Exception:  # somebody else's logger_class
            logger.exception("Exception in the logger's access()")

    return record


def statsd_metrics(logger: Any) -> Recorder:
    """Return a recorder that sends the metrics of gunicorn's `Statsd.access()`.

    Args:
        logger: gunicorn's `Statsd`; `gunicorn.request.duration` is a timer, in
            older ones (23.0) a histogram.

    """
    send_duration = getattr(logger, "timer", logger.histogram)

    def record(record: AccessRecord) -> None:
        send_duration("gunicorn.request.duration", record.microseconds() / 1000)
        logger.increment("gunicorn.requests", 1)
        logger.increment(f"gunicorn.request.status.{record.status}", 1)

    return record


class Hooked:
    """An ASGI app inside gunicorn's `pre_request` and `post_request`.

    Both get the same `Request`, which waits in the scope meanwhile: what
    `pre_request` has put there, `post_request` finds. A WebSocket is a request
    too, over when it closes. As in gunicorn's workers, a request that never
    came to the app has no hooks, and a `pre_request` that raises makes it fail.

    `record` must be fed the records of the app's requests, for `post_request`.

    Args:
        worker: What the hooks get as their worker; its `log` gets their errors.
        pre_request: gunicorn's setting, None where nobody set it.
        post_request: The same; gunicorn's own validation lets it always take
            four arguments.

    """

    def __init__(
        self,
        worker: Any,
        pre_request: Callable[[Any, Request], None] | None,
        post_request: Callable[..., None] | None,
    ) -> None:
        self._app: ASGIApp
        self._worker = worker
        self._pre_request = pre_request
        self._post_request = post_request

    def around(self, app: ASGIApp) -> Hooked:
        """Wrap the ASGI 3 app *app*."""
        self._app = app
        return self

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Call `pre_request`, then return the app's own awaitable."""
        if scope["type"] in ("http", "websocket"):
            request = scope[_REQUEST] = Request(AccessRecord.begun(scope))
            if self._pre_request is not None:
                self._pre_request(self._worker, request)
        return self._app(scope, receive, send)

    def record(self, record: AccessRecord) -> None:
        """Call `post_request`, at the end of the response."""
        request = record.scope.get(_REQUEST)
        if request is None or self._post_request is None:
            return
        environ, response = environ_of(record, request), Response(record)
        try:
            self._post_request(self._worker, request, environ, response)
        except Exception:  # somebody else's hook
            self._worker.log.exception("Exception in post_request hook")


_REQUEST = "uvworker.request"
