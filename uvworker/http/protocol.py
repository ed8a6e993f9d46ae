"""The protocol class that uvicorn is given as `http=`: one HTTP/1.1 connection.

The classes below add one thing each: `reading`, `closing`, `answering`, `connection`.
Rule: here is what uvicorn calls, and what only this class can know because it imports
all the others: the mixins, and the rooms that hand a connection over.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from . import upgrade
from .casefold import Casefolding
from .connection import Connection
from .handshake import Handshake
from .negotiation import BOTH, PRIOR_KNOWLEDGE, Foreknowing, Negotiating
from .phases import BODY, SHUT
from .refusal import Refusal
from .service import Configuration, Policy, ServerState, Service


class HTTPProtocol(Connection):
    """One HTTP/1.1 connection.

    This class behaves as uvicorn's own protocols do; `configured()` returns a subclass
    with a worker's settings. They are class attributes, so that an idle connection
    holds none of them.
    """

    policy: ClassVar[Policy] = Policy()

    # Written at run time, by the first connection: uvicorn calls the class for each
    # connection, and passes its state and the loop only then. A factory object would
    # write the same attribute, and `http=` of uvicorn's Config takes a class.
    _service: ClassVar[Service | None] = None

    __slots__ = ()

    @classmethod
    def configured(cls, **settings: Any) -> type[HTTPProtocol]:
        """Return a protocol class for one worker: uvicorn's `http=`.

        Args:
            settings: the fields of `Policy`.

        """
        policy = Policy(**settings)
        mixed_in: dict[type, bool] = {
            Negotiating: policy.http2 is not None,
            Foreknowing: policy.http2_cleartext in (PRIOR_KNOWLEDGE, BOTH),
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
        config: Configuration,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        cls = type(self)
        service = cls._service
        if service is None or service.server_state is not server_state:
            loop = _loop or asyncio.get_running_loop()
            cls._service = service = Service(config, server_state, loop, cls.policy)
        policy = cls.policy
        if policy.wanted is not None:  # asked here, so that no request pays for it
            record = policy.record if policy.wanted() else None
            if record is not service.record:
                service.set_recorder(record)
        super().__init__(service, server_state, app_state)

    # -- asyncio

    def eof_received(self) -> bool:
        """Answer the requests of a client that has sent its end; or close.

        The client may only have stopped sending, or it may have left: both look alike
        until something is written (RFC 9112 section 9.6). So the app gets
        `http.disconnect`, and what it sends still goes out. A connection closes at
        once if it has TLS, half a request, a WebSocket's handshake or no request.
        """
        cycle = self.queue[-1] if self.queue else self.cycle
        if cycle is None or self.phase is BODY or isinstance(cycle, Handshake):
            return False
        if not self.transport.can_write_eof():
            return False
        self.phase = SHUT
        cycle.keep_alive = False
        self.disconnect()
        self.cancel_after(self.limits.disconnect_grace)
        return True

    # -- what the server does with it

    def shutdown(self) -> None:
        """Close the connection soon: the next response announces it.

        A connection without a request waits `DRAIN_WINDOW` seconds for one that may
        be under way.
        """
        self.draining = True
        if self.transport.is_closing():
            self.close_idle()
        elif self.cycle is None:
            self.open_window()

    def disconnect(self) -> None:
        """Give the apps `http.disconnect`; what they send still goes out."""
        for cycle in (self.cycle, *(self.queue or ())):
            if cycle is not None:
                cycle.disconnect(lost=False)

    def cut(self) -> None:
        """End the connection now: cancel the app, and send 503 if nothing was sent."""
        if self.cycle is None:
            self.transport.abort()
        else:
            self.give_up(Refusal(503))

    def upgrade(self, rest: bytes) -> bytes | None:
        """Accept another protocol, or return the request, changed, with *rest* behind.

        *rest* came behind the head.
        """
        return upgrade.decide(self, rest)
