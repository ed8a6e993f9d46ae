"""From an accepted socket to a protocol: PROXY header, TLS handshake, connection.

In this order, which is the order on the wire; each step has its deadline, and what
goes wrong in one ends that connection only, with a line that says why.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

from .proxy_protocol import ABSENT, Header, ProxyProtocol, ProxyProtocolError
from .tls import HANDSHAKE_TIMEOUT, Certificates

logger = logging.getLogger("uvicorn.error")


class Handshakes:
    """Opens one connection per call; constructed on the loop.

    *make*: returns a new protocol. Where a PROXY header came, its ``client`` and
    ``server`` are set before ``connection_made``.
    *proxy_protocol*: what to expect of the peers, or None for no such header.
    *certificates*: whose context each connection gets, or None for plain HTTP.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        *,
        proxy_protocol: ProxyProtocol | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self._make = make
        self._proxy_protocol = proxy_protocol
        self._certificates = certificates
        self._plain = proxy_protocol is None and certificates is None
        self._loop = asyncio.get_running_loop()

    async def __call__(self, connection: socket.socket) -> None:
        """Open *connection*, a non-blocking socket, or close it."""
        try:
            if self._plain:
                await self._loop.connect_accepted_socket(self._make, connection)
            else:
                await self._open_in_steps(connection)
        except asyncio.CancelledError:  # a stop does not wait for it any longer
            connection.close()
            raise
        except (OSError, ProxyProtocolError) as error:
            connection.close()
            level = logging.DEBUG if _is_disconnect(error) else logging.WARNING
            logger.log(level, "A connection was lost before HTTP: %s", error)

    async def _open_in_steps(self, connection: socket.socket) -> None:
        header = await self._header(connection)
        certificates = self._certificates
        await self._loop.connect_accepted_socket(
            lambda: self._protocol(header),
            connection,
            ssl=certificates.context if certificates else None,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT if certificates else None,
        )

    async def _header(self, connection: socket.socket) -> Header:
        if self._proxy_protocol is None:
            return ABSENT
        unix = connection.family == socket.AF_UNIX
        peer = None if unix else connection.getpeername()[:2]
        return await self._proxy_protocol.receive(self._loop, connection, peer)

    def _protocol(self, header: Header) -> Any:
        protocol = self._make()
        if header.source is not None:
            protocol.client, protocol.server = header.source, header.destination
        return protocol


def _is_disconnect(error: Exception) -> bool:
    """Tell a client that left, or never spoke, from one that spoke wrong."""
    if isinstance(error, ssl.SSLError):
        return False
    gone = isinstance(error, OSError) and error.errno == errno.ENOTCONN
    return gone or isinstance(error, (ConnectionError, TimeoutError))
