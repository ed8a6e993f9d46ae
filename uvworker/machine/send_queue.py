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
    held = transport.get_write_buffer_size()
    descriptor = transport.get_extra_info("socket").fileno()
    if descriptor < 0:  # it is closed
        return held
    (sent,) = _INT.unpack(fcntl.ioctl(descriptor, termios.TIOCOUTQ, _ROOM))
    return held + int(sent)
