"""A connection that knows its peer, and turns heads into ASGI scopes.

Rule: what depends on the peer (address, scheme, trust) is decided here, and once for
each connection where possible. Rooms that hand a connection over to another protocol
(`upgrade`, `handshake`, `handoff`, `http2`) import this class and none above it.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from . import target
from .answering import Answering
from .cycle import Cycle
from .extensions import EARLY_HINT, OFFERED, TRAILERS, WITHOUT_FILES, ExtendedCycle
from .forwarded import ForwardedError
from .refusal import RETRY_AFTER, Refusal, malformed
from .service import ServerState, Service


class Connection(Answering):
    """One HTTP/1.1 connection, without the requests for another protocol.

    If a PROXY header came, `client` and `server` are set before `connection_made()`.
    """

    __slots__ = (
        "announced",
        "app_state",
        "extensions",
        "scheme",
        "server",
        "trusted",
    )

    def __init__(
        self, service: Service, server_state: ServerState, app_state: dict[str, Any]
    ) -> None:
        super().__init__(service, server_state)
        self.app_state = app_state
        self.server: tuple[str, int | None] | None = None
        self.extensions: dict[str, Any] | None = None

    # -- asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Identify the peer, and wait for its first request until `header_timeout`."""
        self.transport = transport
        self._identify(transport)
        self.open_parser()
        self.server_state.connections.add(self)
        self.deadline = self.service.clock.turn + self.service.header_turns
        self.service.clock.watch(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Tell the app, which may go on for `disconnect_grace` seconds."""
        self.release()
        self.incoming = None
        self.drop(grace=self.limits.disconnect_grace)
        self.resume_writing()

    def release(self) -> None:
        """Forget the connection: it is lost, or another protocol has it now."""
        self.server_state.connections.discard(self)
        self.service.clock.forget(self)
        self.stop_listening()

    # -- from a head to a request

    def admit(self, method: str, version: str, *, keep_alive: bool) -> Cycle:
        """Return the request of a good head, with its ASGI scope."""
        service = self.service
        path, raw_path, query = target.read(self.url, self.headers)
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": service.asgi,
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": method,
            "root_path": service.root_path,
            "path": service.root_path + path,
            "raw_path": service.raw_root_path + raw_path,
            "query_string": query,
            "headers": self.headers,
            "state": self.app_state.copy(),
            "extensions": (OFFERED if service.sendfile else WITHOUT_FILES).copy(),
        }
        if self.extensions is not None:
            scope["extensions"].update(self.extensions)
        if self.trusted:
            for name, _ in self.headers:
                if name in service.forwarded_names:
                    self.forward(scope)
                    break
        cycle = ExtendedCycle(self, scope, keep_alive and service.keepalive > 0)
        if method == "HEAD":
            cycle.head_only = True
        if version == "1.0":
            # As in uvicorn: one request, even if the client asks for keep-alive.
            cycle.keep_alive = cycle.chunks_understood = False
            del scope["extensions"][EARLY_HINT]
        elif self.takes_trailers():
            cycle.takes_trailers = True
            scope["extensions"][TRAILERS] = {}
        if service.limit_concurrency is not None and service.full():
            cycle.refusal = Refusal(503, "limit_concurrency is reached", RETRY_AFTER)
            self.log_refusal(cycle.refusal)
        if service.timed:
            cycle.target, cycle.started = self.url, monotonic()
        return cycle

    def forward(self, scope: dict[str, Any]) -> None:
        """Apply what a trusted proxy says of the client to *scope*."""
        forwarding = self.service.forwarding
        assert forwarding is not None
        try:
            forwarding.apply(scope)
        except ForwardedError as error:
            raise malformed(str(error)) from error

    def keeps(self, name: bytes) -> bool:
        """Apply gunicorn's `header_map` to a field with an underscore in its name."""
        forwarding = self.service.forwarding
        if forwarding is None:
            return True
        try:
            return forwarding.keeps(name, trusted=self.trusted)
        except ForwardedError as error:
            raise malformed(str(error)) from error

    # -- the peer

    def _identify(self, transport: asyncio.Transport) -> None:
        # The loop keeps these; to ask the transport's socket costs 8 µs more.
        here, there = map(transport.get_extra_info, ("sockname", "peername"))
        unix = isinstance(here, (str, bytes))
        self.announced = self.client is not None
        if not (self.announced or unix or there is None):
            self.client = there[:2]
        if self.server is None and here is not None:
            self.server = (here, None) if unix else here[:2]
        # A client that has already gone has no address, and so is not trusted.
        known = unix or self.client is not None
        service = self.service
        self.trusted = known and service.trusts(self.client and self.client[0])
        self.scheme = "http"
        self.gathers = service.gathers
        if transport.get_extra_info("sslcontext"):
            self.scheme = "https"
            self.gathers = False  # each piece would be a TLS record
            if service.tls is not None:
                ssl_object = transport.get_extra_info("ssl_object")
                self.extensions = {"tls": service.tls(ssl_object)}
