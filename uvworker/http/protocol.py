"""The protocol class that uvicorn is given as `http=`: one HTTP/1.1 connection.

Reading is in `reading`, answering in `answering`; here they are joined. The rule:
what hangs on uvicorn, on the peer or on the settings is decided here, and once for
each connection wherever that is possible.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from . import target, upgrade
from .answering import Answering
from .casefold import Casefolding
from .cycle import Cycle
from .forwarded import ForwardedError
from .http2 import Negotiating
from .reading import IDLE
from .refusal import RETRY_AFTER, Refusal, malformed
from .service import Policy, Service

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

Address = tuple[str, int]


class HTTPProtocol(Answering):
    """A connection.

    The class as it is behaves as uvicorn's own protocols do; `configured()` returns
    one with a worker's settings. They are class attributes, so that an idle
    connection holds none of them.

    Whoever reads a PROXY header in front sets `client` and `server` of the instance
    before `connection_made()`.
    """

    policy: ClassVar[Policy] = Policy()

    _service: ClassVar[Service | None] = None

    __slots__ = (
        "announced",
        "app_state",
        "extensions",
        "scheme",
        "server",
        "trusted",
    )

    @classmethod
    def configured(cls, **settings: Any) -> type[HTTPProtocol]:
        """Return a protocol class for one worker, to be given to uvicorn as `http=`.

        Args:
            settings: the fields of `Policy`.

        """
        policy = Policy(**settings)
        mixed_in = {
            Negotiating: policy.http2 is not None,
            Casefolding: policy.limits.casefold_http_method,
        }
        attributes: dict[str, Any] = {
            "__slots__": (),
            "__doc__": cls.__doc__,
            "_service": None,
            "policy": policy,
        }
        bases = (*(mixin for mixin, wanted in mixed_in.items() if wanted), cls)
        return type(cls.__name__, bases, attributes)

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        cls = type(self)
        service = cls._service
        if service is None or service.server_state is not server_state:
            loop = _loop or asyncio.get_running_loop()
            cls._service = service = Service(config, server_state, loop, cls.policy)
        super().__init__(service, server_state)
        self.app_state = app_state
        self.server: tuple[str, int | None] | None = None
        self.extensions: dict[str, Any] | None = None

    # -- asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin: who is there, may it be trusted, how long may it be silent."""
        self.transport = transport
        self._identify(transport)
        self.open_parser()
        self.server_state.connections.add(self)  # type: ignore[arg-type]
        self.deadline = self.service.sweep.turn + self.service.header_turns
        self.service.sweep.watch(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """End: the app hears of it, and may go on for `disconnect_grace` seconds."""
        self.release()
        self.incoming = None
        self.drop(grace=self.limits.disconnect_grace)
        self.resume_writing()

    def release(self) -> None:
        """Look no more after the connection: it is lost, or another protocol's."""
        self.server_state.connections.discard(self)
        self.service.sweep.forget(self)
        self.stop_listening()

    # -- the server

    def shutdown(self) -> None:
        """Take leave: the next response announces it.

        A connection without a request has `DRAIN_WINDOW` seconds in which one is
        still answered, as it may be under way already.
        """
        self.draining = True
        if self.cycle is None:
            self.open_window()

    def disconnect(self) -> None:
        """Tell the app `http.disconnect`; what it sends still arrives."""
        for cycle in (self.cycle, *(self.queue or ())):
            if cycle is not None:
                cycle.disconnect(lost=False)

    def cut(self) -> None:
        """End at once: 503 if nothing was sent, and the app is cancelled."""
        if self.cycle is None:
            self.transport.abort()
        else:
            self.give_up(Refusal(503))

    # -- from a head to a request

    def admit(self, method: str, version: str, *, keep_alive: bool) -> Cycle:
        """Turn a head into a scope."""
        service = self.service
        path, raw_path, query = target.read(self.url)
        scope = {
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
        }
        if self.extensions is not None:
            scope["extensions"] = self.extensions.copy()
        if self.trusted:
            for name, _ in self.headers:
                if name in service.claims:
                    self.forward(scope)
                    break
        cycle = Cycle(self, scope, keep_alive and service.keepalive > 0)
        if method == "HEAD":
            cycle.head_only = True
        if version == "1.0":
            # As in uvicorn: a single request, whatever the client hopes for.
            cycle.keep_alive = cycle.chunks_understood = False
        if service.limit_concurrency is not None and service.full():
            cycle.refusal = Refusal(503, "limit_concurrency is reached", RETRY_AFTER)
        if service.record is not None:
            cycle.target, cycle.started = self.url, self.loop.time()
        return cycle

    def forward(self, scope: dict[str, Any]) -> None:
        """Let a trusted proxy tell who the client is."""
        forwarding = self.service.forwarding
        assert forwarding is not None
        try:
            forwarding.apply(scope)
        except ForwardedError as error:
            raise malformed(str(error)) from error

    def keeps(self, name: bytes) -> bool:
        """Ask gunicorn's `header_map` about a field with an underscore in its name."""
        forwarding = self.service.forwarding
        if forwarding is None:
            return True
        try:
            return forwarding.keeps(name, trusted=self.trusted)
        except ForwardedError as error:
            raise malformed(str(error)) from error

    def upgrade(self, rest: bytes) -> None:
        """Act on a head that asks for another protocol."""
        upgrade.decide(self, rest)

    def reparse(self, data: bytes) -> None:
        """Read a request again that was changed."""
        self.phase = IDLE
        self.open_parser()
        self.data_received(data)

    # -- the peer

    def _identify(self, transport: asyncio.Transport) -> None:
        # The names that loops keep: to ask the transport's socket costs 8 µs more.
        here, there = map(transport.get_extra_info, ("sockname", "peername"))
        unix = isinstance(here, (str, bytes))
        self.announced = self.client is not None
        if not (self.announced or unix or there is None):
            self.client = there[:2]
        if self.server is None and here is not None:
            self.server = (here, None) if unix else here[:2]
        # A client that is gone already has no address, and no trust either.
        known = unix or self.client is not None
        service = self.service
        self.trusted = known and service.trusts(self.client and self.client[0])
        self.scheme = "http"
        if transport.get_extra_info("sslcontext"):
            self.scheme = "https"
            if service.tls is not None:
                ssl_object = transport.get_extra_info("ssl_object")
                self.extensions = {"tls": service.tls(ssl_object)}
