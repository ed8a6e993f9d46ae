"""What gunicorn has no setting for: uvicorn's own options, and this package's.

One table, the fields of `Options`, says everything there is to know of an option: its
name, type, default, unit and range, who has it, and which gunicorn setting it
overrides. Reading an option, from wherever it was set, is `sources.resolve`'s.

An option whose default is None and which names a gunicorn setting is that setting by
uvicorn's name: it is honoured so that subclasses with ``CONFIG_KWARGS``, containers
with ``UVICORN_*`` and gunicorns too old to have the setting keep working, and it wins
over the setting where both are given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args, get_type_hints

from .kinds import (
    ADDRESSES,
    BOOLEAN,
    BYTES,
    HEADERS,
    SECONDS,
    TEXT,
    Kind,
    choice,
    integer,
    or_off,
    or_unset,
)

Owner = Literal["uvicorn", "uvworker"]

LOOP = or_unset(
    choice(("auto", "asyncio", "uvloop", "zuvloop", "none"), importable="factory")
)
HTTP = or_unset(choice(("auto", "h11", "httptools", "zttp"), importable="class"))
WS = choice(
    ("auto", "none", "websockets", "websockets-sansio", "wsproto"), importable="class"
)
LIFESPAN = or_unset(choice(("auto", "on", "off")))
FORWARDED = choice(("x-forwarded", "rfc7239"))
INTERFACE = choice(("auto", "asgi3", "asgi2", "wsgi"))


@dataclass(frozen=True, slots=True)
class Row:
    """What the table says of one option beside its type and default."""

    owner: Owner
    kind: Kind
    doc: str
    setting: str = ""  # the gunicorn setting that it overrides when it is not None


def _uvicorn(kind: Kind, doc: str, setting: str = "") -> Row:
    return Row("uvicorn", kind, doc, setting)


def _ours(kind: Kind, doc: str) -> Row:
    return Row("uvworker", kind, doc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Every option of one worker, checked and in its canonical form."""

    # uvicorn's names for what newer gunicorns have a setting for
    loop: Annotated[
        str | None, _uvicorn(LOOP, "The event loop of each worker.", "asgi_loop")
    ] = None
    http: Annotated[
        str | type | None,
        _uvicorn(
            HTTP,
            'The HTTP protocol; "auto" and "httptools" are this package\'s own.',
            "http_parser",
        ),
    ] = None
    http2: Annotated[
        bool | None,
        _uvicorn(or_unset(BOOLEAN), "Speak HTTP/2, through zttp.", "http_protocols"),
    ] = None
    lifespan: Annotated[
        str | None, _uvicorn(LIFESPAN, "The lifespan protocol.", "asgi_lifespan")
    ] = None
    root_path: Annotated[
        str | None,
        _uvicorn(or_unset(TEXT), "ASGI's root_path of every request.", "root_path"),
    ] = None
    ws_max_size: Annotated[
        int | None,
        _uvicorn(
            or_unset(integer(0)),
            "Largest WebSocket message, in bytes; 0 for no limit.",
            "websocket_max_message_size",
        ),
    ] = None
    timeout_keep_alive: Annotated[
        float | None,
        _uvicorn(
            or_unset(SECONDS), "Seconds that a connection may be idle.", "keepalive"
        ),
    ] = None
    limit_max_requests: Annotated[
        int | None,
        _uvicorn(
            or_unset(integer(0)), "Recycle after so many requests.", "max_requests"
        ),
    ] = None
    limit_max_requests_jitter: Annotated[
        int | None,
        _uvicorn(
            or_unset(integer(0)),
            "Spread of the number above.",
            "max_requests_jitter",
        ),
    ] = None
    forwarded_allow_ips: Annotated[
        tuple[str, ...] | None,
        _uvicorn(
            or_unset(ADDRESSES),
            "Proxies whose headers are trusted.",
            "forwarded_allow_ips",
        ),
    ] = None
    access_log: Annotated[
        bool | None,
        _uvicorn(
            or_unset(BOOLEAN),
            "False: no access log, whatever gunicorn's accesslog says.",
            "accesslog",
        ),
    ] = None

    # uvicorn's own
    ws: Annotated[str | type, _uvicorn(WS, "The WebSocket protocol.")] = "auto"
    ws_max_queue: Annotated[
        int, _uvicorn(integer(1), "WebSocket messages held for the app.")
    ] = 32
    ws_ping_interval: Annotated[
        float | None,
        _uvicorn(or_off(SECONDS), "Seconds between WebSocket pings."),
    ] = 20.0
    ws_ping_timeout: Annotated[
        float | None,
        _uvicorn(or_off(SECONDS), "Seconds that a pong may take."),
    ] = 20.0
    ws_per_message_deflate: Annotated[
        bool, _uvicorn(BOOLEAN, "Offer WebSocket compression.")
    ] = True
    interface: Annotated[
        str,
        _uvicorn(INTERFACE, 'What the app speaks; "wsgi" serves Flask or Django.'),
    ] = "auto"
    factory: Annotated[
        bool, _uvicorn(BOOLEAN, "The app is a function that returns the app.")
    ] = False
    env_file: Annotated[
        str | None,
        _uvicorn(
            or_unset(TEXT),
            "File of environment variables for the app, read in each worker.",
        ),
    ] = None
    proxy_headers: Annotated[
        bool, _uvicorn(BOOLEAN, "Believe the headers of trusted proxies.")
    ] = True
    server_header: Annotated[bool, _uvicorn(BOOLEAN, "Send Server.")] = True
    date_header: Annotated[bool, _uvicorn(BOOLEAN, "Send Date.")] = True
    headers: Annotated[
        tuple[tuple[str, str], ...],
        _uvicorn(HEADERS, "Headers added to every response."),
    ] = ()
    limit_concurrency: Annotated[
        int | None,
        _uvicorn(
            or_off(integer(0)),
            "Connections or requests of one worker beyond which it answers 503.",
        ),
    ] = None
    h11_max_incomplete_event_size: Annotated[
        int | None,
        _uvicorn(
            or_unset(integer(1)),
            'Largest request head in bytes with http="h11"; None for 65536.',
        ),
    ] = None
    reset_contextvars: Annotated[
        bool, _uvicorn(BOOLEAN, "Run each request in a fresh context.")
    ] = False
    ssl_keyfile_password: Annotated[
        str | None, _uvicorn(or_unset(TEXT), "Password of gunicorn's keyfile.")
    ] = None

    # this package's
    header_timeout: Annotated[
        float | None,
        _ours(
            or_off(SECONDS),
            "Seconds for a request's head, and for a new connection's first byte; 408.",
        ),
    ] = 30.0
    request_timeout: Annotated[
        float | None,
        _ours(or_off(SECONDS), "Seconds that the app may take for one request; 504."),
    ] = None
    body_timeout: Annotated[
        float | None,
        _ours(or_off(SECONDS), "Seconds that a request body may stall; 408."),
    ] = None
    max_body_size: Annotated[
        int | None, _ours(or_off(BYTES), "Largest request body, in bytes; 413.")
    ] = None
    max_rss: Annotated[
        int | None,
        _ours(or_off(BYTES), "Resident memory, in bytes, at which to recycle."),
    ] = None
    max_lifetime: Annotated[
        float | None, _ours(or_off(SECONDS), "Age, in seconds, at which to recycle.")
    ] = None
    max_lifetime_jitter: Annotated[
        float, _ours(SECONDS, "Random seconds, up to these, added to max_lifetime.")
    ] = 0.0
    drain_delay: Annotated[
        float,
        _ours(
            SECONDS,
            "Seconds to go on accepting after SIGTERM, inside graceful_timeout.",
        ),
    ] = 0.0
    boot_timeout: Annotated[
        float | None,
        _ours(or_off(SECONDS), "Seconds that a worker may take until it serves."),
    ] = None
    access_log_json: Annotated[
        bool, _ours(BOOLEAN, "Write the access log as one JSON object a line.")
    ] = False
    forwarded_header: Annotated[
        str,
        _ours(
            FORWARDED,
            "Which headers the trusted proxies set: X-Forwarded-*, or RFC 7239's "
            "Forwarded. The others are not read, since clients can write them.",
        ),
    ] = "x-forwarded"
    gc_freeze: Annotated[
        bool, _ours(BOOLEAN, "gc.freeze() before the fork, with preload_app.")
    ] = False

    # From CONFIG_KWARGS only: parameters of a uvicorn younger than this table.
    unknown_to_us: MappingProxyType[str, object] = field(
        default_factory=lambda: MappingProxyType({})
    )

    def for_uvicorn(self, parameters: Collection[str]) -> dict[str, Any]:
        """Return what goes to ``uvicorn.Config`` as it is.

        The options that override a gunicorn setting are not among them: they are in
        `Settings`, merged.

        Args:
            parameters: the parameter names of the installed ``uvicorn.Config``.

        """
        values = {
            name: getattr(self, name)
            for name, row in table().items()
            if row.owner == "uvicorn" and not row.setting and name in parameters
        }
        return {**values, "headers": list(self.headers), **self.unknown_to_us}


@cache
def table() -> Mapping[str, Row]:
    """Return the row of every option, in the order of `Options`."""
    hints = get_type_hints(Options, include_extras=True)
    return MappingProxyType(
        {
            item.name: get_args(hints[item.name])[1]
            for item in fields(Options)
            if item.name != "unknown_to_us"
        }
    )
