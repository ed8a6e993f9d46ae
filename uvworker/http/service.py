"""What all connections of one server share.

Rule: what is the same for every connection is computed here, once, so that an idle
connection takes little memory and a request looks up one object.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from ..access.record import Recorder, together
from ..access.tally import Tally
from ..app.path_warnings import PathWarnings
from .deadlines import Clock
from .forwarded import Forwarding
from .head import Header, lines
from .limits import Limits
from .refusal import RefusalLog

logger = logging.getLogger("uvicorn.error")

# Seconds in which a client that is still sending can read the last response. Without
# them it gets a reset, and may lose the response: RFC 9112 section 9.6.
LINGER = 2.0

# Seconds after which a client that takes no byte from our buffer is dropped: the
# default of gunicorn's `timeout`.
WRITE_STALL = 30.0

# Seconds to wait for an idle client's TLS close_notify after ours. A client with a pool
# may not read for hours, and would hold up every drain; RFC 8446 section 6.1 does not
# demand the wait.
CLOSE_NOTIFY_TIMEOUT = 2.0

# Hosts whose trust is cached. Proxies are few and connect often; to read an address
# takes 8 µs, a third of the other cost of a new connection.
TRUST_CACHE = 1024

SPEC_VERSION = "2.3"  # of ASGI HTTP: send() does nothing once the client has left

DROPPED_BODY = (
    "The app sent a body to %s with status %d, which has none; it was dropped. Let the "
    "app send none."
)


class Configuration(Protocol):
    """uvicorn's `Config`, as far as HTTP uses it."""

    loaded: bool
    loaded_app: Any
    asgi_version: str
    root_path: str
    limit_concurrency: int | None
    timeout_keep_alive: int
    ws: Any
    ws_protocol_class: Any

    def load(self) -> None:
        """Import the app and wrap it."""


class ServerState(Protocol):
    """uvicorn's, as far as HTTP uses it: what the server and its connections share."""

    total_requests: int
    connections: set[Any]
    tasks: set[asyncio.Task[None]]
    default_headers: list[Header]


class Held(Protocol):
    """A response whose head waits for the first piece of its body."""

    head: bytes

    def flush(self) -> None:
        """Write the head."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A worker's settings for its connections; the defaults are as in uvicorn.

    Args:
        limits: sizes and deadlines.
        record: called with the record of every answered request.
        wanted: asked at each new connection whether `record` is wanted from now on,
            for all connections; None if it always is.
        tally: counts every answered request.
        forwarding: what trusted proxies may say.
        tls: called once for each TLS connection with its `ssl_object`; returns the
            ASGI `tls` extension.
        http2: called with a connection that is HTTP/2; returns an object that takes it
            over. None where HTTP/2 is not spoken.
        http2_cleartext: gunicorn's; whether HTTP/2 is spoken without TLS, and how.
        sendfile: the kernel may copy files to clients.
        raises: `send()` raises `ClientDisconnected` once the client has left, for a
            wrapper of ours that has no other way to learn it.
        websockets: called once with the loop and the clock of deadlines; returns an
            object that opens WebSockets. None: uvicorn serves them.

    """

    limits: Limits = field(default_factory=Limits)
    record: Recorder | None = None
    wanted: Callable[[], bool] | None = None
    tally: Tally | None = None
    forwarding: Forwarding | None = None
    tls: Callable[[Any], dict[str, Any]] | None = None
    http2: Callable[[Any], Any] | None = None
    http2_cleartext: str = "off"
    sendfile: bool = True
    raises: bool = False
    websockets: Callable[[asyncio.AbstractEventLoop, Clock], Any] | None = None


class Service:
    """The app, the clock and the fixed answers of one server.

    Args:
        config: uvicorn's, loaded here if it is not.
        server_state: uvicorn's.
        loop: the worker's.
        policy: the worker's.

    """

    def __init__(
        self,
        config: Configuration,
        server_state: ServerState,
        loop: asyncio.AbstractEventLoop,
        policy: Policy,
    ) -> None:
        if not config.loaded:
            config.load()
        self.config = config
        self.server_state = server_state
        self.app = config.loaded_app
        self.tally = policy.tally
        self.set_recorder(policy.record)
        self.forwarding = policy.forwarding
        self.forwarded_names = (
            policy.forwarding.names if policy.forwarding else frozenset()
        )
        self.tls = policy.tls
        self.http2 = policy.http2
        self.http2_cleartext = policy.http2_cleartext
        self.asgi = {"version": config.asgi_version, "spec_version": SPEC_VERSION}
        self.root_path: str = config.root_path
        self.raw_root_path = config.root_path.encode("ascii")
        self.limit_concurrency = config.limit_concurrency
        self.keepalive = config.timeout_keep_alive  # seconds; 0: no second request
        self.clock = clock = Clock(loop, _write_heads)
        self.websockets: Any = policy.websockets and policy.websockets(loop, clock)
        self.linger_turns = clock.turns(LINGER)
        self.stall_turns = clock.turns(WRITE_STALL)
        self.close_notify_turns = clock.turns(CLOSE_NOTIFY_TIMEOUT)
        self.keepalive_turns = clock.turns(self.keepalive)
        self.limits = limits = policy.limits
        self.header_turns = clock.turns(limits.header_timeout)
        self.request_turns = clock.turns(limits.request_timeout)
        self.body_turns = clock.turns(limits.body_timeout)
        self.trusts = _trust(policy.forwarding)
        self.refusal_log = RefusalLog()
        self.bodies = PathWarnings(DROPPED_BODY)
        self.raises = policy.raises
        self.sendfile = policy.sendfile
        self.held: list[Held] = []  # their heads wait to be written
        self.loop = loop
        # uvloop writes a list of pieces at once. asyncio's transports copy it, or never
        # pause the writer, by version (CVE-2024-12254).
        self.gathers = type(loop).__module__.partition(".")[0] == "uvloop"
        self.pid = os.getpid()
        self.tasks = server_state.tasks
        apart = getattr(config, "reset_contextvars", False)  # not in uvicorn 0.36
        self.spawn = self._spawn_in_own_context if apart else loop.create_task
        self._default_headers: list[Header] = []
        self._default_lines = b""

    def set_recorder(self, record: Recorder | None) -> None:
        """Call *record* with each request answered from now on; None: call nothing."""
        tally = self.tally
        self.record = record
        self.timed = record is not None or tally is not None
        # Called with the requests of another protocol, after an upgrade.
        self.recorded = together(record, tally.record if tally else None)

    def default_lines(self) -> bytes:
        """Return the lines of `date` and `server`, joined again when they change.

        uvicorn replaces the list, once a second, and never changes it in place.
        """
        headers = self.server_state.default_headers
        if headers is not self._default_headers:
            self._default_headers = headers
            self._default_lines = lines(headers)
        return self._default_lines

    def hold(self, cycle: Held) -> None:
        """Write the head of a stream at the end of this turn of the loop, or before.

        An event stream's client waits for the head, and its app for the first event.
        One callback serves all connections: one for each response would cost more than
        the write that it saves.
        """
        if not self.held:
            self.loop.call_soon(self._flush)
        self.held.append(cycle)

    def _flush(self) -> None:
        held, self.held = self.held, []
        for cycle in held:
            if cycle.head:
                cycle.flush()

    def full(self) -> bool:
        """Return whether uvicorn's `limit_concurrency` is reached."""
        limit = self.limit_concurrency
        return limit is not None and (
            len(self.server_state.connections) >= limit
            or len(self.server_state.tasks) >= limit
        )

    def _spawn_in_own_context(
        self, coroutine: Coroutine[Any, Any, None]
    ) -> asyncio.Task[None]:
        """Start a task in a context of its own: uvicorn's `reset_contextvars`."""
        return contextvars.Context().run(self.loop.create_task, coroutine)


def _write_heads(connections: Iterable[object]) -> None:
    """Write the heads of known length whose bodies are late: they may take minutes.

    Once a second: to look after each of them costs most responses, whose bodies come
    right behind their heads, more than the write that it saves.
    """
    for connection in connections:
        cycle: Held | None = getattr(connection, "cycle", None)
        if cycle is not None and cycle.head:
            cycle.flush()


def _trust(forwarding: Forwarding | None) -> Callable[[str | None], bool]:
    """Return the test of whether a host is a trusted proxy; None: a unix socket."""
    if forwarding is None:
        return lambda _host: False

    @lru_cache(TRUST_CACHE)
    def trusts(host: str | None) -> bool:
        return forwarding.trusts(None if host is None else (host, 0))

    return trusts
