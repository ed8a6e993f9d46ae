"""What all connections of one server share.

Rule: whatever is the same for every connection is worked out here, once, so that an
idle connection costs little memory and a request looks up one thing.
"""

from __future__ import annotations

import contextvars
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .limits import Limits
from .refusal import Complaints
from .responsehead import Header, lines
from .sweep import Sweep

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from uvicorn import Config
    from uvicorn.server import ServerState

    from .accessrecord import Recorder
    from .cycle import Cycle
    from .forwarded import Forwarding

# Seconds. A client that still sends when it is answered would lose the answer to a
# reset, if the connection were closed at once: RFC 9112 section 9.6.
LINGER = 2.0

# Seconds without one byte taken from our buffer, after which a client that does not
# read is dropped. gunicorn's `timeout` is as patient by default.
WRITE_STALL = 30.0

# Seconds for an idle client to end TLS as we did. One that keeps connections in a pool
# may not look for hours, and would hold up every drain; RFC 8446 section 6.1 does not
# ask to wait for it.
FAREWELL = 2.0

# Hosts whose trust is remembered. Proxies are few and come often; reading an address
# takes 8 µs, a third of what else a new connection costs.
TRUST_CACHE = 1024

SPEC_VERSION = "2.4"  # of ASGI HTTP: send() raises once the client has left


@dataclass(frozen=True, slots=True)
class Policy:
    """A worker's settings for its connections; the defaults are uvicorn's ways.

    Args:
        limits: sizes and deadlines.
        record: called with the record of every answered request.
        forwarding: what trusted proxies may say.
        tls: called once for each TLS connection with its `ssl_object`; returns the
            ASGI `tls` extension.
        http2: uvicorn's protocol class for connections that agreed on HTTP/2; None
            where it was not offered.

    """

    limits: Limits = field(default_factory=Limits)
    record: Recorder | None = None
    forwarding: Forwarding | None = None
    tls: Callable[[Any], dict[str, Any]] | None = None
    http2: type[Any] | None = None


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
        config: Config,
        server_state: ServerState,
        loop: asyncio.AbstractEventLoop,
        policy: Policy,
    ) -> None:
        if not config.loaded:
            config.load()
        self.config = config
        self.server_state = server_state
        self.app = config.loaded_app
        self.record = policy.record
        self.forwarding = policy.forwarding
        self.claims = policy.forwarding.names if policy.forwarding else frozenset()
        self.tls = policy.tls
        self.asgi = {"version": config.asgi_version, "spec_version": SPEC_VERSION}
        self.root_path: str = config.root_path
        self.raw_root_path = config.root_path.encode("ascii")
        self.limit_concurrency = config.limit_concurrency
        self.keepalive = config.timeout_keep_alive  # seconds; 0: no second request
        self.sweep = sweep = Sweep(loop)
        self.linger_turns = sweep.turns(LINGER)
        self.stall_turns = sweep.turns(WRITE_STALL)
        self.farewell_turns = sweep.turns(FAREWELL)
        self.keepalive_turns = sweep.turns(self.keepalive)
        self.limits = limits = policy.limits
        self.header_turns = sweep.turns(limits.header_timeout)
        self.request_turns = sweep.turns(limits.request_timeout)
        self.body_turns = sweep.turns(limits.body_timeout)
        self.trusts = _trust(policy.forwarding)
        self.complaints = Complaints()
        self.held: list[Cycle] = []  # their heads wait for their bodies
        self.loop = loop
        self.tasks = server_state.tasks
        apart = getattr(config, "reset_contextvars", False)  # not in uvicorn 0.36
        self.spawn = self._spawn_apart if apart else loop.create_task
        self._default_headers: list[Header] = []
        self._default_lines = b""

    def default_lines(self) -> bytes:
        """Return the lines of `date` and `server`, joined when they change.

        uvicorn replaces the list, once a second, and never changes it in place.
        """
        headers = self.server_state.default_headers
        if headers is not self._default_headers:
            self._default_headers = headers
            self._default_lines = lines(headers)
        return self._default_lines

    def hold(self, cycle: Cycle) -> None:
        """Write the head of a stream no later than at the end of this turn of the loop.

        An event stream's client waits for the head, and its app for the first event.
        One callback a turn does for all connections: one for each response would
        cost more than the write that it saves.
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
        """Tell whether uvicorn's `limit_concurrency` is reached."""
        limit = self.limit_concurrency
        return limit is not None and (
            len(self.server_state.connections) >= limit
            or len(self.server_state.tasks) >= limit
        )

    def _spawn_apart(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task in a context of its own: uvicorn's `reset_contextvars`."""
        return contextvars.Context().run(self.loop.create_task, coroutine)


def _trust(forwarding: Forwarding | None) -> Callable[[str | None], bool]:
    """Return what tells whether a host is a trusted proxy; None is a unix socket."""
    if forwarding is None:
        return lambda _host: False

    @lru_cache(TRUST_CACHE)
    def trusts(host: str | None) -> bool:
        return forwarding.trusts(None if host is None else (host, 0))

    return trusts
