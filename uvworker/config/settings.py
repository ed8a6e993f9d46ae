"""The values of gunicorn's settings that a worker needs after the fork.

`translate` reads gunicorn's ``cfg`` once and returns plain, frozen values; only the
rooms in front see ``cfg``. A field has the setting's name, and the default that
gunicorn 27.0.1 documents: a gunicorn too old to have the setting gets that default. How
each setting is supported is in `support_table`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from .options import Options, table

UNLIMITED_MESSAGE = 2**63 - 1  # bytes; uvicorn's WebSockets have no "no limit"
OWN_PROTOCOL = ("auto", "httptools")  # values of `Settings.http_parser`
THREADS_CEILING = 1000  # gunicorn's default worker_connections, made for threads

ONE_BY_ONE = 1  # gunicorn's default threads
GRACE = 3  # gunicorn's default asgi_disconnect_grace_period

LOCALHOST = ("127.0.0.1", "::1")
SECURE_SCHEME_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "X-FORWARDED-PROTOCOL": "ssl",
        "X-FORWARDED-PROTO": "https",
        "X-FORWARDED-SSL": "on",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """gunicorn's settings, with the types that the worker uses.

    A comment says where the type or the meaning differs from gunicorn's.
    """

    # The worker's life. In seconds; for `timeout` and `graceful_timeout`, 0 is no
    # limit.
    timeout: int = 30
    graceful_timeout: int = 30
    max_requests: int = 0  # 0: never
    max_requests_jitter: int = 0  # drawn by the worker, after the fork
    reload: bool = False

    # The pool of a WSGI app
    threads: int | None = None  # None: a2wsgi's own size, see `_threads`

    # Connections
    worker_connections: int | None = None  # None: no ceiling, see `_ceiling`
    keepalive: float = 2.0  # seconds; 0: close after each response
    asgi_disconnect_grace_period: int | None = None  # seconds; None: see `_grace`
    sendfile: bool | None = None  # None: unless the app compresses

    # The request's head; 0: no limit
    limit_request_line: int = 4094  # bytes
    limit_request_fields: int = 100
    limit_request_field_size: int = 8190  # bytes
    permit_obsolete_folding: bool = False
    permit_unconventional_http_version: bool = False
    casefold_http_method: bool = False

    # The app and the protocols that serve it
    asgi_loop: str = "auto"
    asgi_lifespan: str = "auto"
    http_parser: str | type = "auto"  # uvicorn's word: auto, httptools, h11, or more
    http_protocols: tuple[str, ...] = ("h1",)
    http2_cleartext: str = "off"
    http2_max_concurrent_streams: int = 100
    http2_max_header_list_size: int = 65536
    root_path: str = ""
    websocket_max_message_size: int = 16 * 1024 * 1024  # bytes

    # The client, as proxies name it
    forwarded_allow_ips: tuple[str, ...] = LOCALHOST
    secure_scheme_headers: Mapping[str, str] = field(
        default_factory=lambda: SECURE_SCHEME_HEADERS
    )
    forwarder_headers: tuple[str, ...] = ("SCRIPT_NAME", "PATH_INFO")
    header_map: str = "drop"
    proxy_protocol: str = "off"  # off, v1, v2 or auto, also where it was a boolean
    proxy_allow_ips: tuple[str, ...] = LOCALHOST

    # TLS: the context is gunicorn's own; these files are watched for renewal
    certfile: str | None = None
    keyfile: str | None = None
    ca_certs: str | None = None

    # Logs
    accesslog: str | None = None
    access_log_format: str = (
        '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
    )

    # Hooks of each request, None if not set: a hook costs each request something
    pre_request: Callable[..., Any] | None = None
    post_request: Callable[..., Any] | None = None


def _ceiling(value: int) -> int | None:
    """Return the limit of connections, None if the user did not set it.

    gunicorn's default is sized for threads and green threads, and would silently limit
    a server of WebSockets. So the default is no limit but that of file descriptors. For
    about a thousand, set 999 or 1001: gunicorn does not distinguish its default from
    the same value set by the user.
    """
    return None if value == THREADS_CEILING else value


def _threads(value: int) -> int | None:
    """Return the size of a WSGI app's thread pool, None if the user did not set it.

    gunicorn's default, 1, is for workers that run one request at a time.
    """
    return None if value == ONE_BY_ONE else value


def _grace(value: int) -> int | None:
    """Return the seconds from a disconnect to the app's cancellation, None if not set.

    gunicorn's default is 3. But uvicorn never cancels an app, which may be in the
    middle of a payment. So only a value other than the default has an effect.
    """
    return None if value == GRACE else value


def _sendfile(value: bool | None) -> bool | None:
    """Return whether files may go by sendfile(); unset, the variable SENDFILE tells.

    None: neither does. gunicorn's own `cfg.sendfile` is False if the user sets True.
    """
    if value is None and "SENDFILE" in os.environ:
        return os.environ["SENDFILE"].lower() in {"y", "1", "yes", "true"}
    return value


def _proxy_protocol(value: str | bool) -> str:
    """Return the mode; before gunicorn 24 the setting is a boolean, for v1."""
    if isinstance(value, bool):
        return "v1" if value else "off"
    return value


def _protocols(value: list[str] | bool) -> tuple[str, ...]:
    """Return the protocols in order of preference; uvicorn's http2 is a boolean."""
    if isinstance(value, bool):
        return ("h2", "h1") if value else ("h1",)
    return tuple(value)


# gunicorn's names of protocols, and ALPN's.
ALPN = MappingProxyType({"h1": "http/1.1", "h2": "h2"})


def alpn_protocols(settings: Settings) -> list[str]:
    """Return what to offer in a TLS handshake, the preferred first.

    Nothing if only HTTP/1.1 is enabled: clients then use HTTP/1.1.
    """
    if "h2" not in settings.http_protocols:
        return []
    return [ALPN[name] for name in settings.http_protocols]


def h2c(settings: Settings) -> str:
    """Return how HTTP/2 is spoken where there is no TLS; empty if it is not."""
    spoken = "h2" in settings.http_protocols and settings.http2_cleartext != "off"
    return settings.http2_cleartext if spoken else ""


PARSERS = MappingProxyType({"auto": "auto", "fast": "httptools", "python": "h11"})

# Settings whose value is converted.
SHAPES: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "threads": _threads,
        "worker_connections": _ceiling,
        "asgi_disconnect_grace_period": _grace,
        "sendfile": _sendfile,
        "keepalive": float,
        "http_parser": lambda value: PARSERS.get(value, value),
        "http_protocols": _protocols,
        "websocket_max_message_size": lambda size: size or UNLIMITED_MESSAGE,
        "forwarded_allow_ips": tuple,
        "secure_scheme_headers": lambda headers: MappingProxyType(dict(headers)),
        "forwarder_headers": tuple,
        "proxy_protocol": _proxy_protocol,
        "proxy_allow_ips": tuple,
    }
)

HOOKS = ("pre_request", "post_request")


def changed(cfg: Any, name: str) -> bool:
    """Return whether the user gave setting `name` a value other than its default.

    A setting has its default only until validation, so the default is read from a new
    instance.

    Args:
        cfg: gunicorn's ``Config``.
        name: a setting that this gunicorn has.

    """
    setting = cfg.settings[name]
    return bool(setting.get() != type(setting)().get())


def speaks_tls(cfg: Any) -> bool:
    """Return whether connections are TLS: files are set, or the ssl_context hook.

    Args:
        cfg: gunicorn's ``Config``.

    """
    return bool(cfg.is_ssl) or changed(cfg, "ssl_context")


def translate(cfg: Any, options: Options) -> Settings:
    """Return the settings of `cfg`, overridden by those of `options` that do so.

    Args:
        cfg: gunicorn's ``Config``, of any supported version.
        options: the worker's resolved options.

    """
    known = [item.name for item in fields(Settings) if item.name in cfg.settings]
    values = {name: _given(cfg, name) for name in known} | _overrides(options)
    return Settings(**{name: _shaped(name, value) for name, value in values.items()})


def _given(cfg: Any, name: str) -> Any:
    if name in HOOKS and not changed(cfg, name):
        return None
    return cfg.settings[name].get()


def _overrides(options: Options) -> dict[str, Any]:
    """Return the settings that `options` overrides."""
    given = {
        row.setting: value
        for name, row in table().items()
        if row.setting and (value := getattr(options, name)) is not None
    }
    if given.pop("accesslog", True):  # uvicorn's True names no destination
        return given
    return given | {"accesslog": None}


def _shaped(name: str, value: Any) -> Any:
    return SHAPES[name](value) if name in SHAPES else value
