"""HTTP/2, on the TLS connections whose handshake agreed on it (ALPN, RFC 7301).

Such a connection goes to uvicorn's protocol on zttp, as one with a WebSocket does.
Rule: what the settings refuse in a request's head over HTTP/1.1 is refused over HTTP/2.
The deadlines and `max_body_size` are HTTP/1.1's alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .introduction import configuration_for
from .refusal import FIELD_TOO_LONG, LINE_TOO_LONG, TOO_MANY_FIELDS, Refusal

if TYPE_CHECKING:
    import asyncio

    from .protocol import HTTPProtocol as Base
else:
    Base = object

AGREED = "h2"  # ALPN's name of HTTP/2 over TLS

# What HTTP/1.1 writes around method and target, and around a field's name and value:
# gunicorn counts it, and so a limit means the same for both.
LINE_FRAME = len("  HTTP/1.1")
FIELD_FRAME = len(": \r\n")

# Seconds for a client to answer our end of TLS with its own, or to take what is still
# under way to it. One that holds its connections in a pool may not look for hours.
FAREWELL = 5.0


class Negotiating(Base):
    """Gives a connection away if the handshake agreed on HTTP/2."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or let uvicorn's protocol begin."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() == AGREED:
            self._hand_over(transport)

    def _hand_over(self, transport: asyncio.Transport) -> None:
        self.release()
        assert self.policy.http2 is not None
        protocol = self.policy.http2(
            config=configuration_for(self, self._check),
            server_state=self.server_state,
            app_state=self.app_state,
            _loop=self.loop,
        )
        transport.set_protocol(protocol)
        protocol.connection_made(transport)

    def _check(self, scope: dict[str, Any]) -> None:
        """Hold the head to gunicorn's limits and its `header_map`."""
        limits, headers = self.limits, scope["headers"]
        target = len(scope["raw_path"]) - len(self.service.raw_root_path)
        if scope["query_string"]:
            target += 1 + len(scope["query_string"])
        if len(scope["method"]) + target + LINE_FRAME > limits.request_line:
            raise Refusal(414, LINE_TOO_LONG)
        if len(headers) > limits.fields:
            raise Refusal(431, TOO_MANY_FIELDS)
        if any(len(n) + len(v) + FIELD_FRAME > limits.field_size for n, v in headers):
            raise Refusal(431, FIELD_TOO_LONG)
        scope["headers"] = [h for h in headers if b"_" not in h[0] or self.keeps(h[0])]


def protocol_class() -> type:
    """Return uvicorn's protocol class for HTTP/2, mended.

    Raises ``ImportError`` where uvicorn has none, or zttp is not installed.
    """
    from uvicorn.protocols.http.zttp_h2_impl import ZttpH2Protocol  # noqa: PLC0415

    class HTTP2Protocol(ZttpH2Protocol):  # type: ignore[misc, unused-ignore]
        """Two things that uvicorn 0.54 leaves open."""

        def handle_request(self, event: Any) -> None:
            """End a body with the head, where zttp says it in no event of its own."""
            super().handle_request(event)
            cycle = self.cycles.get(event.stream_id)
            if cycle is not None and event.end_stream:
                cycle.more_body = False
                cycle.message_event.set()

        def _close_connection(self) -> None:
            """Do not wait for a client that does not say goodbye."""
            super()._close_connection()
            self.loop.call_later(FAREWELL, self._insist)

        def _insist(self) -> None:
            if self.transport.get_write_buffer_size():
                self.loop.call_later(FAREWELL, self._insist)
            else:
                self.transport.abort()

    return HTTP2Protocol
