"""A worker's own listener (``reuse_port``): opened late, closed without losing clients.

The kernel gives each listener of a port its share of the connections, even if its
worker does not accept, and resets the connections in its backlog when it closes. So the
rule: a listener listens only while its worker accepts. A booting worker only binds it;
a worker that leaves turns new connections away, and then accepts the rest of the
backlog.

The backlog of a worker that is killed is lost, unless Linux moves it to another
listener: with the sysctl ``net.ipv4.tcp_migrate_req``.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

# Seconds from turning connections away to the last accept. A TCP handshake that takes
# longer, which is one round trip, is reset. Not longer, because a connection that is
# turned away costs its client a second.
HANDSHAKE = 0.05

SO_ATTACH_FILTER = 26  # asm-generic/socket.h; Python has no name for it

# Classic BPF on a segment, from its TCP header on: drop a segment that opens a
# connection. The client sends it again after a second, to another listener.
_NO_SYN = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte of the flags
        (0x54, 0, 0, 0x12),  # of which SYN and ACK
        (0x15, 0, 1, 0x02),  # if it is SYN alone
        (0x06, 0, 0, 0),  # keep nothing
        (0x06, 0, 0, 0xFFFF),  # else all
    )
)


class CannotBind(Exception):  # noqa: N818  what happened
    """The address cannot be bound."""


def is_possible(cfg: Any) -> bool:
    """Return whether *cfg* sets ``reuse_port``, and every address is a TCP address.

    The path of a unix socket has one owner, and a descriptor is bound already.
    """
    return bool(
        cfg.reuse_port
        and hasattr(socket, "SO_REUSEPORT")
        and all(isinstance(address, tuple) for address in cfg.address)
    )


class OwnListener(socket.socket):
    """A bound TCP socket, which listens from `open` on.

    ``sock`` is the socket itself, because gunicorn's listeners have this attribute.

    Raises :class:`CannotBind`.
    """

    def __init__(self, address: tuple[str, int], backlog: int) -> None:
        host, port = address
        super().__init__(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._backlog = backlog
        self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.setblocking(False)
        try:
            self.bind(address)
        except OSError as error:
            self.close()
            raise CannotBind(f"cannot bind {host}:{port}: {error.strerror}") from None

    @property
    def sock(self) -> OwnListener:
        """Return the socket, as gunicorn's listeners do."""
        return self

    def open(self) -> None:
        """Listen."""
        self.listen(self._backlog)


def open_all(listeners: Iterable[socket.socket]) -> None:
    """Listen on those of *listeners* that are a worker's own."""
    for listener in listeners:
        if isinstance(listener, OwnListener):
            listener.open()


def turn_away(listeners: Iterable[socket.socket]) -> None:
    """Drop new connections on *listeners*; handshakes that have begun still complete.

    Close the listeners after `HANDSHAKE` seconds, since a client that is turned away
    waits for a second.
    """
    if sys.platform != "linux":
        return
    code = ctypes.create_string_buffer(_NO_SYN, len(_NO_SYN))
    program = struct.pack("HP", len(_NO_SYN) // 8, ctypes.addressof(code))
    for listener in listeners:
        with suppress(OSError):  # closed meanwhile, or no filters in this kernel
            listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
