"""The request and response objects that gunicorn's loggers and hooks expect.

`logger_class`, statsd, `pre_request` and `post_request` are written for gunicorn's
own workers, whose objects differ from one another. Here is what they have in
common: the attributes of `Request` and `Response`, and a WSGI-like environ.

The rule of this room: an object is built only if a logger or a hook gets it, and an
exception that they raise is logged and never reaches the protocol.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from ..app.asgi import ASGIApp, Receive, Scope, Send
from .format import client_of, printable, user_of
from .record import AccessRecord, Recorder

Headers = list[tuple[bytes, bytes]]

_REPLACED = (b"server", b"date")
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Request:
    """A request for hooks and loggers; a hook may set attributes of its own.

    Attributes:
        method, uri, path, query: As text. `uri` and `query` as received, `path`
            decoded, as in gunicorn's `asgi` worker.
        fragment: Empty; clients do not send the fragment.
        version: `(1, 1)`.
        headers: `(NAME, value)` in the order received, names in capitals.
        scheme: `http`, `https`, `ws` or `wss`.
        peer_addr, remote_addr: `(host, port)` of the client, or None. In
            `pre_request`, the client that a trusted proxy names.

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
    """A response for hooks and loggers.

    Attributes:
        status: `200 OK`, as in gunicorn's `sync` worker.
        status_code: 200.
        headers: `(name, value)` as sent.
        sent: Bytes of body.

    """

    def __init__(self, record: AccessRecord) -> None:
        self.status_code = record.status
        self.status = f"{record.status} {_REASONS.get(record.status, 'Unknown')}"
        self.headers = _text_fields(_as_sent(record.headers))
        self.sent = record.sent


def _as_sent(fields: Headers) -> Headers:
    """Leave out our `Server` and `Date`, which come first, if the app sends its own."""
    names = [name.lower() for name, _ in fields]
    return [
        field
        for number, field in enumerate(fields, 1)
        if names[number - 1] not in _REPLACED or names[number - 1] not in names[number:]
    ]


def _text_fields(
    fields: Any, name_case: Callable[[str], str] = str
) -> list[tuple[str, str]]:
    return [
        (name_case(name.decode("latin-1")), value.decode("latin-1"))
        for name, value in fields
    ]


class Elapsed(timedelta):
    """A duration whose `seconds` include those of its days.

    gunicorn's loggers add `seconds` and `microseconds`, and a WebSocket may stay
    open for days.
    """

    @property
    def seconds(self) -> int:
        """The whole seconds."""
        return self.days * 86400 + super().seconds


def environ_of(record: AccessRecord, request: Request) -> dict[str, str]:
    """Return the request as a WSGI-like environ, with what gunicorn's loggers read."""
    environ = {
        "REQUEST_METHOD": request.method,
        "RAW_URI": request.uri,
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query,
        "SERVER_PROTOCOL": record.protocol,
        "REMOTE_ADDR": record.peer[0] if record.peer else "-",
        "CLIENT_ADDR": client_of(record) or "-",
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
    """Return a recorder that calls the `access()` of a `logger_class`.

    Control characters are escaped before, because gunicorn's logger does not: no
    request can forge a line, with any `logger_class`.

    Args:
        access: `logger.access`.
        logger: Logs an exception of `access`.

    """

    def record(record: AccessRecord) -> None:
        try:
            access(*arguments_of_access(record))
        except Exception:  # from a logger_class of the user's
            logger.exception("Exception in access() of the logger_class")

    return record


def arguments_of_access(
    record: AccessRecord,
) -> tuple[Response, Request, dict[str, str], Elapsed]:
    """Return what gunicorn's `access()` takes, with control characters escaped."""
    request, response = Request(record), Response(record)
    request.headers = [(name, printable(text)) for name, text in request.headers]
    response.headers = [(name, printable(text)) for name, text in response.headers]
    environ = environ_of(record, request)
    environ = {name: printable(value) for name, value in environ.items()}
    user = user_of(record.field(b"authorization"))
    if user is not None and not user.isprintable():
        user = b64encode(f"{printable(user)}:".encode()).decode()
        environ["HTTP_AUTHORIZATION"] = f"Basic {user}"
    elapsed = Elapsed(microseconds=record.microseconds())
    return response, request, environ, elapsed


def statsd_metrics(logger: Any) -> Recorder:
    """Return a recorder that sends the metrics of gunicorn's `Statsd.access()`.

    Args:
        logger: gunicorn's `Statsd`; `gunicorn.request.duration` is a timer, in
            gunicorn 23.0 a histogram.

    """
    send_duration = getattr(logger, "timer", logger.histogram)

    def record(record: AccessRecord) -> None:
        send_duration("gunicorn.request.duration", record.microseconds() / 1000)
        logger.increment("gunicorn.requests", 1)
        logger.increment(f"gunicorn.request.status.{record.status}", 1)

    return record


class Hooked:
    """An ASGI app, between gunicorn's hooks `pre_request` and `post_request`.

    Both hooks get the same `Request`, which the scope holds meanwhile: `post_request`
    finds the attributes that `pre_request` has set. A WebSocket is a request that
    ends when it closes. As in gunicorn's workers, the hooks are not called for a
    request that does not reach the app, and an exception in `pre_request` makes the
    request fail.

    `record` must get the records of the app's requests, for `post_request`.

    Args:
        worker: The hooks' first argument; exceptions are logged to its `log`.
        pre_request: gunicorn's setting, None if not set.
        post_request: The same; after gunicorn's validation, it takes four
            arguments.

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
        except Exception:  # from a hook of the user's
            self._worker.log.exception("Exception in post_request hook")


_REQUEST = "uvworker.request"
