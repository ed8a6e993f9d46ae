"""What one worker serves with, assembled after the fork from settings and options.

It decides once what no connection or request should decide again: the app and its
wrappers, the protocol class and its limits, trusted peers, the access log, the TLS
context. The rule: nothing here runs per request.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import uvicorn

from .accept.proxy_protocol import ProxyProtocol
from .accept.tls import Certificates
from .access.gunicorn_objects import Hooked
from .access.log import AccessLog
from .access.record import Recorded, Recorder, together
from .access.tally import Tally
from .app.compression import compressor
from .app.interface import NotServable, interface_of
from .app.wsgi import Threaded
from .config.options import Options
from .config.requirements import imported, named
from .config.settings import OWN_PROTOCOL, Settings
from .operations.probes import Probed, Probes, without
from .process import children
from .protocols import http2, http_protocol, proxy_protocol, without_access_log

PARAMETERS = inspect.signature(uvicorn.Config).parameters


@dataclass(frozen=True, slots=True)
class Parts:
    """What the worker gives to the assembly.

    *app*: what gunicorn imported. *worker*: the argument of gunicorn's hooks.
    *log*: gunicorn's logger. *tally*: counts what is answered, or None without metrics.
    *probes*: answered before the app, by path.
    """

    app: Any
    worker: Any
    log: Any
    access_log: AccessLog
    tally: Tally | None = None
    probes: Probes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assembly:
    """One worker's parts, wired together; *config* is loaded."""

    config: uvicorn.Config
    proxy_protocol: ProxyProtocol | None


def assemble(
    parts: Parts,
    settings: Settings,
    options: Options,
    certificates: Certificates | None,
    count: Callable[[Any], Any],
) -> Assembly:
    """Return what the worker serves with.

    *count*: wraps the app if requests have to be counted.

    Raises :class:`NotServable` for an app that cannot be served, ``OptionError`` for
    a class that cannot be imported, ``ValueError`` for values that exclude one another,
    ``ImportError`` if a library is not installed.
    """
    for name, value in named(settings, options).items():
        imported(name, value)
    app, interface = _app(parts, settings, options)
    hooks = settings.pre_request, settings.post_request
    hooked = Hooked(parts.worker, *hooks) if any(hooks) else None
    recorded = parts.access_log.record
    if recorded is not None and parts.probes:
        recorded = without(parts.probes, recorded)
    record = together(recorded, hooked.record if hooked else None)
    wanted = None if hooked else parts.access_log.wanted
    ours = settings.http_parser in OWN_PROTOCOL
    http: Any = settings.http_parser
    if not ours:
        http2(settings)  # refuses what the parser does not speak
    else:
        access = {"record": record, "wanted": wanted, "tally": parts.tally}
        files = _sends_files(app, settings, parts.log)
        http = http_protocol(settings, options, certificates, sendfile=files, **access)
    config = uvicorn.Config(
        **_config_values(settings, options, ours=ours)
        # As a factory, so that uvicorn does not call the app to find a factory.
        | {"app": lambda: app, "factory": True, "interface": interface, "http": http}
    )
    config.load()
    if hooked is not None:
        config.loaded_app = hooked.around(config.loaded_app)
    config.loaded_app = count(config.loaded_app)
    if not ours:
        config.loaded_app = children.ending(config.loaded_app)
    if parts.probes:
        config.loaded_app = Probed(config.loaded_app, parts.probes)
    if not ours:
        config.http_protocol_class = without_access_log(config.http_protocol_class)
        config.loaded_app = _recorded(config.loaded_app, record, wanted, parts.tally)
    return Assembly(config, proxy_protocol(settings, ours=ours))


def _config_values(
    settings: Settings, options: Options, *, ours: bool
) -> dict[str, Any]:
    """Return what uvicorn's ``Config`` gets, but for the app and the protocol."""
    values = options.for_uvicorn(PARAMETERS) | uvicorn_values(settings)
    values["env_file"] = None  # read before the app was imported
    # Ours decides by itself which proxies to trust, once per connection.
    values["proxy_headers"] = options.proxy_headers and not ours
    if ours and options.ws == "auto":
        values["ws"] = "none"  # ours serves WebSockets, so uvicorn need load nothing
    return values


def _sends_files(app: Any, settings: Settings, log: Any) -> bool:
    """Return whether the app may answer with the path of a file."""
    if settings.sendfile is not None:
        return settings.sendfile
    if (name := compressor(app)) is None:
        return True
    log.info(
        "%s compresses: frameworks send it the bytes of files, not their paths. "
        "sendfile = True or False settles it.",
        name,
    )
    return False


def _app(parts: Parts, settings: Settings, options: Options) -> tuple[Any, str]:
    """Return the app and its interface; raise :class:`NotServable`."""
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
        app.close()  # or Python warns that it was never awaited
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


def uvicorn_values(settings: Settings) -> dict[str, Any]:
    """Return what gunicorn's settings mean to uvicorn."""
    return {
        "log_config": None,
        "access_log": True,  # False would remove the app's handlers of `uvicorn.access`
        "loop": settings.asgi_loop,
        "lifespan": settings.asgi_lifespan,
        "root_path": _root_path(settings.root_path),
        "timeout_keep_alive": settings.keepalive,
        "ws_max_size": settings.websocket_max_message_size,
        "forwarded_allow_ips": list(settings.forwarded_allow_ips),
    }


def _root_path(configured: str) -> str:
    """Return what is put before a path, which begins with a slash itself."""
    root = configured.strip("/")
    return f"/{root}" if root else ""


def _recorded(
    app: Any,
    record: Recorder | None,
    wanted: Callable[[], bool] | None,
    tally: Tally | None,
) -> Any:
    """Wrap *app* to record its requests, which uvicorn's protocols do not."""
    everything = together(record, tally.record if tally else None)
    if everything is None:
        return app
    if tally is not None:
        app = tally.watching(app)
    kinds = "http", "websocket"
    return Recorded(app, everything, kinds, None if tally else wanted)
