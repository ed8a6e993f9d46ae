"""The options: uvicorn's and this package's, for which gunicorn has no setting.

Rule: one table, the fields of `Options`, has everything about an option: name, type,
default, unit, range, owner, and the gunicorn setting that it overrides.
`sources.resolve` reads options from where they are set.

An option that overrides a gunicorn setting is uvicorn's name for it. It is honoured so
that subclasses with ``CONFIG_KWARGS``, containers with ``UVICORN_*`` and gunicorns too
old to have the setting keep working. It wins if both are set.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args, get_type_hints

from .value_types import (
    ADDRESSES,
    BOOLEAN,
    BYTES,
    HEADERS,
    LISTEN_ADDRESS,
    REQUEST_PATH,
    SECONDS,
    TEXT,
    ValueType,
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
class Option:
    """What the table has about one option, besides its Python type and default."""

    owner: Owner
    type: ValueType
    doc: str
    setting: str = ""  # the gunicorn setting that it overrides when it is not None


def _uvicorn(value_type: ValueType, doc: str, setting: str = "") -> Option:
    return Option("uvicorn", value_type, doc, setting)


def _ours(value_type: ValueType, doc: str) -> Option:
    return Option("uvworker", value_type, doc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Every option of one worker, checked and in its canonical form."""

    # uvicorn's names for settings of gunicorn's
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
        _uvicorn(or_unset(BOOLEAN), "Serve HTTP/2, with zttp.", "http_protocols"),
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
            or_unset(integer(0)), "Recycle after this many requests.", "max_requests"
        ),
    ] = None
    limit_max_requests_jitter: Annotated[
        int | None,
        _uvicorn(
            or_unset(integer(0)),
            "Random number, up to this, added to limit_max_requests.",
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
            "False: no access log, even if gunicorn's accesslog is set.",
            "accesslog",
        ),
    ] = None

    # uvicorn's own
    ws: Annotated[
        str | type,
        _uvicorn(WS, 'The WebSocket protocol; "auto" is this package\'s own.'),
    ] = "auto"
    ws_max_queue: Annotated[
        int, _uvicorn(integer(1), "WebSocket messages held for the app, up to 64 kB.")
    ] = 32
    ws_ping_interval: Annotated[
        float | None,
        _uvicorn(or_off(SECONDS), "Seconds between WebSocket pings."),
    ] = 20.0
    ws_ping_timeout: Annotated[
        float | None,
        _uvicorn(
            or_off(SECONDS), "Seconds for a ping to be answered, by any frame; 1011."
        ),
    ] = 20.0
    ws_per_message_deflate: Annotated[
        bool, _uvicorn(BOOLEAN, "Offer WebSocket compression.")
    ] = True
    interface: Annotated[
        str,
        _uvicorn(INTERFACE, 'The app\'s interface; "wsgi" serves Flask or Django.'),
    ] = "auto"
    factory: Annotated[
        bool, _uvicorn(BOOLEAN, "The app is a function that returns the app.")
    ] = False
    env_file: Annotated[
        str | None,
        _uvicorn(
            or_unset(TEXT),
            "File of environment variables, read in each worker before the app is "
            "imported; needs python-dotenv.",
        ),
    ] = None
    proxy_headers: Annotated[
        bool, _uvicorn(BOOLEAN, "Use the headers of trusted proxies.")
    ] = True
    server_header: Annotated[bool, _uvicorn(BOOLEAN, "Send the header Server.")] = True
    date_header: Annotated[bool, _uvicorn(BOOLEAN, "Send the header Date.")] = True
    headers: Annotated[
        tuple[tuple[str, str], ...],
        _uvicorn(HEADERS, "Headers added to every response."),
    ] = ()
    limit_concurrency: Annotated[
        int | None,
        _uvicorn(
            or_off(integer(0)),
            "Connections or requests of one worker, above which it answers 503.",
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
        _ours(or_off(SECONDS), "Seconds for the app to answer one request; 504."),
    ] = None
    body_timeout: Annotated[
        float | None,
        _ours(or_off(SECONDS), "Seconds without a byte of the request body; 408."),
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
        _ours(or_off(SECONDS), "Seconds for a worker to boot, until it serves."),
    ] = None
    access_log_json: Annotated[
        bool, _ours(BOOLEAN, "Write the access log as one JSON object a line.")
    ] = False
    forwarded_header: Annotated[
        str,
        _ours(
            FORWARDED,
            "The headers that the trusted proxies set: X-Forwarded-*, or RFC 7239's "
            "Forwarded. The others are ignored, because clients can send them.",
        ),
    ] = "x-forwarded"
    gc_freeze: Annotated[
        bool, _ours(BOOLEAN, "Call gc.freeze() before the fork, with preload_app.")
    ] = False
    stall_warning: Annotated[
        float | None,
        _ours(
            or_off(SECONDS),
            "Seconds of a blocked event loop until the log says what blocks it.",
        ),
    ] = 1.0
    slow_request: Annotated[
        float | None,
        _ours(
            or_off(SECONDS),
            "Seconds without a response until the log says where a request waits.",
        ),
    ] = None
    ops_bind: Annotated[
        str | None,
        _ours(
            or_unset(LISTEN_ADDRESS),
            "The listener for health, metrics and the state of the workers.",
        ),
    ] = None
    ops_public: Annotated[
        bool,
        _ours(BOOLEAN, "Allow an ops_bind that other machines can reach."),
    ] = False
    ops_requests: Annotated[
        bool,
        _ours(
            BOOLEAN,
            "List the requests in flight: for the status, and in the log if their "
            "worker dies.",
        ),
    ] = False
    ready_path: Annotated[
        str | None,
        _ours(
            or_unset(REQUEST_PATH),
            "Path on the app's port that answers whether the service is ready.",
        ),
    ] = None
    live_path: Annotated[
        str | None,
        _ours(
            or_unset(REQUEST_PATH),
            "Path on the app's port that answers whether a restart would help.",
        ),
    ] = None

    # From CONFIG_KWARGS only: parameters of a uvicorn newer than this table.
    unknown_to_us: MappingProxyType[str, object] = field(
        default_factory=lambda: MappingProxyType({})
    )

    def for_uvicorn(self, parameters: Collection[str]) -> dict[str, Any]:
        """Return the options that are passed to ``uvicorn.Config`` unchanged.

        Options that override a gunicorn setting are not among them: `Settings` has
        them.

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
def table() -> Mapping[str, Option]:
    """Return the row of every option, in the order of `Options`."""
    hints = get_type_hints(Options, include_extras=True)
    return MappingProxyType(
        {
            item.name: get_args(hints[item.name])[1]
            for item in fields(Options)
            if item.name != "unknown_to_us"
        }
    )
