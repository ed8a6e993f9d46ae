"""From the head of an HTTP/2 request to the ASGI scope (RFC 9113 section 8.3).

Rule: what the settings refuse in a head over HTTP/1.1 is refused here, in the same
words. What is no HTTP/2, as are fields of a connection, never comes here: zttp resets
the stream.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from ..http.connection import Connection
from ..http.head import Header
from ..http.limits import UNLIMITED, Limits
from ..http.refusal import (
    BODY_TOO_LONG,
    FIELD_TOO_LONG,
    LINE_TOO_LONG,
    TOO_MANY_FIELDS,
    Refusal,
    malformed,
)
from ..http.target import HOST, check_host

# What HTTP/1.1 writes around method and target, and around a field's name and value:
# gunicorn counts it, and so a limit means the same for both.
LINE_FRAME = len("  HTTP/1.1")
FIELD_FRAME = len(": \r\n")

FIELD_OVERHEAD = 32  # bytes that a field counts besides its own: section 6.5.2


def describe(event: Any, peer: Connection) -> dict[str, Any]:
    """Return the scope of a head that is not yet checked.

    Args:
        event: zttp's `Request`.
        peer: the connection that it came by.

    """
    service = peer.service
    path = event.path.decode("latin-1")
    headers = _joined(list(event.headers))
    extensions: dict[str, Any] = {"http.response.early_hint": {}}
    if (b"te", b"trailers") in headers:
        extensions["http.response.trailers"] = {}
    return {
        "type": "http",
        "asgi": service.asgi,
        "http_version": "2",
        "server": peer.server,
        "client": peer.client,
        "scheme": peer.scheme,
        "method": event.method.decode("latin-1"),
        "root_path": service.root_path,
        "path": service.root_path + (unquote(path) if "%" in path else path),
        "raw_path": service.raw_root_path + event.path,
        "query_string": event.query,
        "headers": headers,
        "state": peer.app_state.copy(),
        "extensions": extensions | (peer.extensions or {}),
    }


def _joined(headers: list[Header]) -> list[Header]:
    """Make one cookie field of several, as apps know it: section 8.2.3."""
    cookies = [value for name, value in headers if name == b"cookie"]
    if len(cookies) <= 1:
        return headers
    others = [field for field in headers if field[0] != b"cookie"]
    return [*others, (b"cookie", b"; ".join(cookies))]


def check(event: Any, scope: dict[str, Any], peer: Connection) -> None:
    """Hold a head to what holds over HTTP/1.1, and *scope* to gunicorn's `header_map`.

    Raises:
        Refusal: it does not hold.

    """
    fields = list(event.headers)
    _check_sizes(event, fields, peer.limits)
    if event.method == b"CONNECT":
        raise Refusal(501, "CONNECT is for proxies")
    _check_target(event.target, event.method)
    hosts = [value for name, value in fields if name == HOST]
    if len(hosts) != 1:
        raise malformed(f"{len(hosts)} hosts where one is due")
    check_host(hosts[0])
    headers = scope["headers"]
    scope["headers"] = [h for h in headers if b"_" not in h[0] or peer.keeps(h[0])]


def _check_sizes(event: Any, fields: list[Header], limits: Limits) -> None:
    if len(event.method) + len(event.target) + LINE_FRAME > limits.request_line:
        raise Refusal(414, LINE_TOO_LONG)
    if len(fields) > limits.fields:
        raise Refusal(431, TOO_MANY_FIELDS)
    if any(len(n) + len(v) + FIELD_FRAME > limits.field_size for n, v in fields):
        raise Refusal(431, FIELD_TOO_LONG)
    if sum(len(n) + len(v) + FIELD_OVERHEAD for n, v in fields) > limits.header_list:
        raise Refusal(431, "the head is larger than http2_max_header_list_size")
    if limits.max_body_size is not UNLIMITED:
        lengths = (int(value) for name, value in fields if name == b"content-length")
        if any(length > limits.max_body_size for length in lengths):
            raise Refusal(413, BODY_TOO_LONG)


def _check_target(target: bytes, method: bytes) -> None:
    if target[:1] != b"/" and (target, method) != (b"*", b"OPTIONS"):
        raise malformed("a path that does not begin with a slash")
    if b"#" in target or not target.isascii():
        raise malformed("a path with a fragment, or one that is not ASCII")
    if b" " in target or b"\t" in target:  # it ends there in HTTP/1.1, and in a log
        raise malformed("a path with a blank")
