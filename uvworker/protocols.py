"""The protocol classes that serve connections, made from settings and options.

One class is for the app's clients, one for operators. The rule: limits and trust are
decided here, once for each worker, and not by a connection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from .accept.peers import TrustedPeers
from .accept.proxy_protocol import ProxyProtocol
from .accept.tls import Certificates
from .app.interface import NotServable
from .config.options import Options
from .config.settings import OWN_PROTOCOL, Settings, h2c
from .http.forwarded import Forwarding
from .http.limits import Limits
from .operations.events import LIFE
from .operations.server_thread import Protocol
from .websocket.opening import WebSockets
from .websocket.service import Settings as WebSocketSettings

# Imported in the arbiter, so that workers share its memory, and need not read it after
# they have changed their user. Without httptools, only h11 is served.
if find_spec("httptools"):
    from .http.protocol import HTTPProtocol

OPERATORS = 32  # connections to `ops_bind` at a time


def http_protocol(
    settings: Settings,
    options: Options,
    certificates: Certificates | None,
    **policy: Any,
) -> type[HTTPProtocol]:
    """Return our protocol class with this worker's policy.

    *policy*: further fields of :class:`~uvworker.http.service.Policy`.
    """
    cleartext = "" if certificates else h2c(settings)
    return HTTPProtocol.configured(
        limits=_limits(settings, options),
        forwarding=_forwarding(settings, options),
        tls=certificates.describe if certificates else None,
        http2=http2(settings) if certificates or cleartext else None,
        http2_cleartext=cleartext or "off",
        **policy,
        raises=options.interface == "wsgi",
        websockets=_websockets(settings, options) if options.ws == "auto" else None,
    )


def _websockets(
    settings: Settings, options: Options
) -> Callable[[Any, Any], WebSockets]:
    """Return the factory of this worker's WebSockets, to call once it has a loop."""
    return partial(
        WebSockets,
        WebSocketSettings(
            max_size=settings.websocket_max_message_size,
            max_queue=options.ws_max_queue,
            ping_interval=options.ws_ping_interval,
            ping_timeout=options.ws_ping_timeout,
            deflate=options.ws_per_message_deflate,
        ),
    )


def without_access_log(protocol_class: Any) -> Any:
    """Return uvicorn's *protocol_class* without its lines in `uvicorn.access`."""

    class Quiet(protocol_class):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.access_log = False

    return Quiet


def http2(settings: Settings) -> type | None:
    """Return the class of HTTP/2 connections, None where it is not asked for.

    Raises :class:`NotServable` if the parser does not speak it, or a library lacks.
    """
    if not (settings.http_parser in OWN_PROTOCOL or settings.http_protocols == ("h1",)):
        raise NotServable(
            f"http_parser {settings.http_parser!r} does not speak HTTP/2: unset it, or "
            "leave h2 out of http_protocols."
        )
    if "h2" not in settings.http_protocols:
        return None
    try:
        from .http2.connection import HTTP2Connection  # noqa: PLC0415
    except ImportError:
        raise NotServable(
            "HTTP/2 needs Python 3.11 and zttp: "
            "pip install 'uvworker[http2]'. Or leave h2 out of http_protocols."
        ) from None
    return HTTP2Connection


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
        stream_stall=settings.timeout or None,
        streams=settings.http2_max_concurrent_streams,
        header_list=settings.http2_max_header_list_size,
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


def operations_protocol(app: Any) -> Protocol:
    """Return what serves *app* to an operator: our HTTP/1.1, with tight limits."""
    tight = Limits(
        request_line=4096,
        fields=64,
        field_size=8192,
        max_body_size=1,
        header_timeout=5,
        request_timeout=LIFE + 5,  # of a stream of events
    )
    ours = bool(find_spec("httptools"))
    config = uvicorn.Config(
        app,
        http=HTTPProtocol.configured(limits=tight) if ours else "h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=True,  # as above
        proxy_headers=False,
        limit_concurrency=OPERATORS,
        timeout_keep_alive=0,
    )
    config.load()
    if not ours:
        config.http_protocol_class = without_access_log(config.http_protocol_class)

    def protocol(loop: Any) -> tuple[Any, Callable[[], bool]]:
        state = ServerState()
        protocol_class: Any = config.http_protocol_class
        factory = partial(
            protocol_class,
            config=config,
            server_state=state,
            app_state={},
            _loop=loop,
        )
        return factory, lambda: bool(state.connections)

    return protocol


def proxy_protocol(settings: Settings, *, ours: bool) -> ProxyProtocol | None:
    """Return how PROXY headers are read, or None if they are not."""
    if settings.proxy_protocol == "off":
        return None
    if not ours:
        raise NotServable(
            f"http_parser {settings.http_parser!r} does not read PROXY headers: unset "
            "it, or proxy_protocol."
        )
    return ProxyProtocol(
        mode=settings.proxy_protocol,  # type: ignore[arg-type]  # gunicorn checked it
        peers=TrustedPeers.parse(settings.proxy_allow_ips),
    )
