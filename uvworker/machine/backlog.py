"""How many connections wait in a listening socket, as the kernel has it.

The rule: nothing is accepted or changed, and where the kernel does not say, nor do we.

Source: tcp(7), ``TCP_INFO``; sock_diag(7), ``UDIAG_SHOW_RQLEN``. Linux only.
"""

from __future__ import annotations

import os
import socket
import struct

# Of struct tcp_info, for a listening socket: connections that wait, and how many may.
UNACKED = 24  # offset in bytes
PAIR = struct.Struct("=2I")

# A netlink message with a struct unix_diag_req, and the same without it in the answer.
REQUEST = struct.Struct("=IHHII BBHIIIII")
ANSWER = struct.Struct("=IHHII 16x")
ATTRIBUTE = struct.Struct("=HH")  # length, type
SOCK_DIAG = 4  # protocol of netlink
BY_FAMILY, IS_REQUEST = 20, 1
ANY = 0xFFFFFFFF
SHOW_LENGTHS, LENGTHS = 0x10, 4
TIMEOUT = 1.0  # seconds; the kernel answers at once


def waiting(listener: socket.socket) -> tuple[int, int] | None:
    """Return how many connections wait, and how many may; None if unknown."""
    try:
        if listener.family == socket.AF_UNIX:
            return _of_unix(listener)
        size = UNACKED + PAIR.size
        info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
        return PAIR.unpack_from(info, UNACKED)
    except (OSError, AttributeError, struct.error):  # not Linux, or not allowed
        return None


def _of_unix(listener: socket.socket) -> tuple[int, int] | None:
    inode = os.fstat(listener.fileno()).st_ino
    head = REQUEST.size, BY_FAMILY, IS_REQUEST, 0, 0
    request = REQUEST.pack(
        *head, socket.AF_UNIX, 0, 0, ANY, inode, SHOW_LENGTHS, ANY, ANY
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, SOCK_DIAG) as kernel:
        kernel.settimeout(TIMEOUT)
        kernel.send(request)
        answer = kernel.recv(4096)
    _, kind, *_ = ANSWER.unpack_from(answer)
    at = ANSWER.size
    while kind == BY_FAMILY and at < len(answer):
        length, name = ATTRIBUTE.unpack_from(answer, at)
        if name == LENGTHS:
            return PAIR.unpack_from(answer, at + ATTRIBUTE.size)
        at += max(-(-length // 4) * 4, ATTRIBUTE.size)
    return None
