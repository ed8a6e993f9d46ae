"""What a client has sent while it had to wait, and its transport does not tell.

The rule: nothing here is asked of a connection that is read. While reading is paused,
TLS holds what comes. asyncio hands it out before it tells of the end, and so tells
nothing until reading goes on. uvloop (0.23) tells of the end at once, and hands it out
no more.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from contextlib import suppress

_PIECE = 65536  # bytes


def withheld(transport: asyncio.Transport) -> bytes:
    """Return what the TLS of a lost *transport* still holds, if it has TLS.

    This is less than a megabyte: uvloop stops reading before.
    """
    pieces = []
    tls = transport.get_extra_info("ssl_object")
    with suppress(ssl.SSLError):  # all is read
        while tls is not None and (piece := tls.read(_PIECE)):
            pieces.append(piece)
    return b"".join(pieces)


def is_ended(transport: asyncio.Transport) -> bool:
    """Tell whether the client has sent its end, read or not: poll(2), POLLRDHUP."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))
