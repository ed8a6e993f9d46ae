"""Which connections become HTTP/2 connections.

TLS agreed on it (ALPN, RFC 7301), or gunicorn's `http2_cleartext` allows it without
TLS: by prior knowledge (RFC 9113 section 3.3), or by an upgrade (RFC 7540 section 3.2).
Rule: without TLS only trusted peers may speak HTTP/2, and no other client sees a
difference.
"""

from __future__ import annotations

import asyncio

from .connection import Connection
from .head import OF_A_CONNECTION
from .phases import FRESH
from .refusal import malformed

AGREED = "h2"  # ALPN's name of HTTP/2 over TLS

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # section 3.4

# Fields of an HTTP/1.1 request that asks for HTTP/2, which the stream does not have.
HTTP2_SETTINGS = b"http2-settings"
OF_HTTP1 = OF_A_CONNECTION | {HTTP2_SETTINGS}
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: h2c\r\n\r\n"
)

PRIOR_KNOWLEDGE, UPGRADE, BOTH = "prior-knowledge", "upgrade", "both"


class Negotiating(Connection):
    """Gives a connection away if the handshake agreed on HTTP/2."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or let HTTP/2 begin."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() == AGREED:
            become_http2(self)


class Foreknowing(Connection):
    """Gives a connection away if a trusted peer begins with the preface of HTTP/2."""

    __slots__ = ("_preface",)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, and expect a preface of those who may send one."""
        super().connection_made(transport)
        self._preface: bytes | None = b"" if self.trusted else None

    def data_received(self, data: bytes) -> None:
        """Look at what a connection begins with."""
        if self._preface is None or self.phase is not FRESH:
            super().data_received(data)
            return
        begun = self._preface + data
        if begun.startswith(PREFACE):
            become_http2(self, begun)
        elif PREFACE.startswith(begun):
            self._preface = begun
        elif self.service.http2_cleartext == PRIOR_KNOWLEDGE:
            self._preface = None
            self.refuse(malformed("HTTP/1.1 where http2_cleartext expects HTTP/2"))
        else:
            self._preface = None
            super().data_received(begun)


def upgrade(connection: Connection, method: str, rest: bytes) -> bool:
    """Answer the request in *connection* over HTTP/2; return False to decline.

    Args:
        connection: whose parser has just read a head with `Upgrade: h2c`.
        method: of the request.
        rest: what arrived behind the head.

    """
    fields = dict(connection.headers)
    names = [name for name, _ in connection.headers]
    options = {
        option.strip().lower() for option in fields.get(b"connection", b"").split(b",")
    }
    if not (
        connection.service.http2_cleartext in {UPGRADE, BOTH}
        and connection.trusted
        and connection.cycle is None
        and connection.url[:1] == b"/"
        and names.count(HTTP2_SETTINGS) == 1
        and HTTP2_SETTINGS in options
        # A body would come as HTTP/1.1 before the first frame: serve it as such.
        and fields.get(b"content-length", b"0") == b"0"
        and b"transfer-encoding" not in fields
    ):
        return False
    headers = [field for field in connection.headers if field[0] not in OF_HTTP1]
    assert connection.service.http2 is not None
    http2 = connection.service.http2(connection)
    settings = fields[HTTP2_SETTINGS]
    if not http2.adopt(method.encode("ascii"), connection.url, headers, settings):
        return False
    connection.release()
    connection.transport.write(SWITCHING)
    http2.begin(rest)
    return True


def become_http2(connection: Connection, data: bytes = b"") -> None:
    """Hand the connection over to HTTP/2; *data* is what has arrived."""
    connection.release()
    http2 = connection.service.http2
    assert http2 is not None
    http2(connection).begin(data)
