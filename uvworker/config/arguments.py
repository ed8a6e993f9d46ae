"""The types of the arguments of ``Worker.configured()``, for type checkers.

These are the types of what may be passed: a size may be a string, headers any sequence.
`options.Options` has the types that result. A test compares the names of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict


class Arguments(TypedDict, total=False):
    """Every option, as Python code may give it; see `options.Options` for each."""

    loop: str | None
    http: str | type | None
    http2: bool | None
    lifespan: Literal["auto", "on", "off"] | None
    root_path: str | None
    ws_max_size: int | None
    timeout_keep_alive: float | None
    limit_max_requests: int | None
    limit_max_requests_jitter: int | None
    forwarded_allow_ips: str | Sequence[str] | None
    access_log: bool | None

    ws: str | type
    ws_max_queue: int
    ws_ping_interval: float | None
    ws_ping_timeout: float | None
    ws_per_message_deflate: bool
    interface: Literal["auto", "asgi3", "asgi2", "wsgi"]
    factory: bool
    env_file: str | None
    proxy_headers: bool
    server_header: bool
    date_header: bool
    headers: Sequence[tuple[str, str]] | None
    limit_concurrency: int | None
    h11_max_incomplete_event_size: int | None
    reset_contextvars: bool
    ssl_keyfile_password: str | None

    header_timeout: float | None
    request_timeout: float | None
    body_timeout: float | None
    max_body_size: int | str | None
    max_rss: int | str | None
    max_lifetime: float | None
    max_lifetime_jitter: float
    drain_delay: float
    boot_timeout: float | None
    access_log_json: bool
    forwarded_header: Literal["x-forwarded", "rfc7239"]
    gc_freeze: bool
    stall_warning: float | None
    slow_request: float | None
    ops_bind: str | None
    ops_public: bool
    ops_requests: bool
    ready_path: str | None
    live_path: str | None
