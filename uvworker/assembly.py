"""What one worker serves with, put together after the fork from settings and options.

Everything that has to be decided once, so that a connection or a request does not: the
app and its wrappers, the protocol class and its limits, who is trusted, the access
log, the TLS context. Nothing here runs per request.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, cast

import uvicorn

from .config.interface import interface_of
from .config.options import Options
from .config.settings import OWN_PROTOCOL, Settings
from .http.accesslog import AccessLog, LoggerKind
from .http.accessrecord import Recorded, Recorder, together
from .http.forwarded import Forwarding
from .http.gunicornshape import Hooked
from .http.http2 import protocol_class
from .http.limits import Limits
from .http.peers import TrustedPeers
from .http.proxyproto import ProxyProtocol
from .http.tls import Certificates
from .http.wsgi import Threaded

# In the arbiter, so that the fork shares it and a worker that has changed its user need
# not read it. A worker with h11 is for who cannot install httptools.
if find_spec("httptools"):
    from .http.protocol import HTTPProtocol

PARAMETERS = inspect.signature(uvicorn.Config).parameters


class NotServable(Exception):  # noqa: N818  what the app is
    """The app does not speak an interface that is served here."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What gunicorn's worker brings along.

    *app*: what gunicorn imported. *worker*: what the hooks get as their worker.
    *log*: gunicorn's logger; *kind*: what its class is.
    """

    app: Any
    worker: Any
    log: Any
    kind: LoggerKind


@dataclass(frozen=True, slots=True)
class Assembly:
    """One worker's parts, wired together; *config* is loaded."""

    config: uvicorn.Config
    access_log: AccessLog
    proxy_protocol: ProxyProtocol | None


def assemble(
    parts: Parts,
    settings: Settings,
    options: Options,
    certificates: Certificates | None,
    count: Callable[[Any], Any],
) -> Assembly:
    """Return what the worker serves with.

    *count*: wraps the app where requests have to be counted.

    Raises :class:`NotServable` for an app that cannot be served, ``ValueError`` for
    values that exclude one another, ``ImportError`` for what is not installed.
    """
    access_log = AccessLog(
        parts.log,
        parts.kind,
        settings.access_log_format,
        as_json=options.access_log_json,
        lines=options.access_log is not False,
        worker_id=int(os.environ["UVWORKER_ID"]),
    )
    app, interface = _app(parts, settings, options)
    hooks = settings.pre_request, settings.post_request
    hooked = Hooked(parts.worker, *hooks) if any(hooks) else None
    record = together(access_log.record, hooked.record if hooked else None)
    ours = settings.http_parser in OWN_PROTOCOL
    if not (ours or settings.http_protocols == ("h1",)):
        raise NotServable(
            f"HTTP/2 is not spoken beside http_parser {settings.http_parser!r}; "
            "unset one of the two"
        )
    config = uvicorn.Config(
        **options.for_uvicorn(PARAMETERS)
        | _uvicorn_values(settings)
        | {
            # As a factory, so that uvicorn does not call the app to see what happens.
            "app": lambda: app,
            "factory": True,
            "interface": interface,
            "http": _protocol(settings, options, record, certificates)
            if ours
            else settings.http_parser,
            # Ours believes proxies by itself, and once per connection.
            "proxy_headers": options.proxy_headers and not ours,
        }
    )
    config.load()
    if hooked is not None:
        config.loaded_app = hooked.around(config.loaded_app)
    config.loaded_app = count(config.loaded_app)
    if record is not None and not ours:
        config.loaded_app = Recorded(config.loaded_app, record, ("http", "websocket"))
    return Assembly(config, access_log, _proxy_protocol(settings, ours=ours))


def _app(parts: Parts, settings: Settings, options: Options) -> tuple[Any, str]:
    """Return the app and what it speaks, or say why it cannot be served."""
    app = parts.app
    if interface_of(app) == "factory":
        if not options.factory:
            parts.log.warning(
                "The app takes no arguments, so it is called as a factory; "
                "write `module:name()` to say so."
            )
        app = made_by(app)
    if options.interface == "wsgi":
        return _wsgi(app, settings.threads), "asgi3"
    if options.interface != "auto":
        return app, options.interface
    spoken = interface_of(app)
    if spoken == "wsgi":
        raise NotServable(
            "the app takes (environ, start_response): it is a WSGI app, and uvworker "
            "serves ASGI. Serve it with gunicorn's own worker (-k gthread), or set "
            'the option interface = "wsgi", as UVICORN_INTERFACE=wsgi for one.'
        )
    return app, spoken


def made_by(factory: Callable[[], Any]) -> Any:
    """Return the app that *factory* makes; raise :class:`NotServable` if it is none."""
    app = factory()
    if callable(app):
        return app
    if inspect.iscoroutine(app):
        app.close()  # or Python warns that nobody awaited it
    raise NotServable(
        f"the factory returned a {type(app).__name__}, which is not callable; it has "
        "to be a plain function that returns the app."
    )


def _wsgi(app: Any, threads: int | None) -> Any:
    """Return an ASGI app around *app*; uvicorn's own wrapper is deprecated."""
    try:
        from a2wsgi import WSGIMiddleware  # noqa: PLC0415  an extra
    except ImportError:
        raise NotServable(
            "interface = \"wsgi\" needs a2wsgi: pip install 'uvworker[wsgi]'"
        ) from None
    size = {} if threads is None else {"workers": threads}
    return Threaded(app, cast("Any", WSGIMiddleware), **size)


def _uvicorn_values(settings: Settings) -> dict[str, Any]:
    """Return what gunicorn's settings mean to uvicorn."""
    return {
        "log_config": None,
        "access_log": False,
        "loop": settings.asgi_loop,
        "lifespan": settings.asgi_lifespan,
        "root_path": settings.root_path,
        "timeout_keep_alive": settings.keepalive,
        "ws_max_size": settings.websocket_max_message_size,
        "forwarded_allow_ips": list(settings.forwarded_allow_ips),
    }


def _protocol(
    settings: Settings,
    options: Options,
    record: Recorder | None,
    certificates: Certificates | None,
) -> type[HTTPProtocol]:
    """Return our protocol class with this worker's policy."""
    return HTTPProtocol.configured(
        limits=_limits(settings, options),
        record=record,
        forwarding=_forwarding(settings, options),
        tls=certificates.describe if certificates else None,
        http2=_http2(settings) if certificates else None,
    )


def _http2(settings: Settings) -> type | None:
    if "h2" not in settings.http_protocols:
        return None
    try:
        return protocol_class()
    except ImportError:
        raise NotServable(
            "HTTP/2 needs Python 3.11, uvicorn 0.53 and zttp: "
            "pip install 'uvworker[http2]'. Or leave h2 out of http_protocols."
        ) from None


def _limits(settings: Settings, options: Options) -> Limits:
    return Limits(
        request_line=settings.limit_request_line,
        fields=settings.limit_request_fields,
        field_size=settings.limit_request_field_size,
        max_body_size=options.max_body_size or 0,
        header_timeout=options.header_timeout,
        body_timeout=options.body_timeout,
        request_timeout=options.request_timeout,
        disconnect_grace=settings.asgi_disconnect_grace_period,
        permit_obsolete_folding=settings.permit_obsolete_folding,
        permit_unconventional_http_version=settings.permit_unconventional_http_version,
        casefold_http_method=settings.casefold_http_method,
    )


def _forwarding(settings: Settings, options: Options) -> Forwarding:
    forwarding = Forwarding.from_settings(
        forwarded_allow_ips=settings.forwarded_allow_ips,
        secure_scheme_headers=settings.secure_scheme_headers,
        forwarder_headers=settings.forwarder_headers,
        header_map=settings.header_map,  # type: ignore[arg-type]  # gunicorn checked it
        forwarded_header=options.forwarded_header,  # type: ignore[arg-type]  # checked
    )
    if not options.proxy_headers:  # `header_map` still holds
        return replace(forwarding, names=frozenset())
    return forwarding


def _proxy_protocol(settings: Settings, *, ours: bool) -> ProxyProtocol | None:
    if settings.proxy_protocol == "off":
        return None
    if not ours:
        raise NotServable(
            f"proxy_protocol is not read by http_parser {settings.http_parser!r}; "
            "unset one of the two."
        )
    return ProxyProtocol(
        mode=settings.proxy_protocol,  # type: ignore[arg-type]  # gunicorn checked it
        peers=TrustedPeers.parse(settings.proxy_allow_ips),
    )
