"""What a client has not taken yet of what was written to it: tcp(7), SIOCOUTQ.

The kernel holds megabytes, so a client that reads slowly makes room for a write only
now and then; but it acknowledges all the time.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios

_INT = struct.Struct("i")
_ROOM = bytes(_INT.size)


def unacknowledged(transport: asyncio.Transport) -> int:
    """Return the bytes that wait: those of *transport*, and those in the kernel."""
    return transport.get_write_buffer_size() + in_kernel(transport)


def in_kernel(transport: asyncio.Transport) -> int:
    """Return the bytes that the kernel holds for a client; none once it is closed."""
    descriptor = transport.get_extra_info("socket").fileno()
    if descriptor < 0:
        return 0
    return int(_INT.unpack(fcntl.ioctl(descriptor, termios.TIOCOUTQ, _ROOM))[0])
