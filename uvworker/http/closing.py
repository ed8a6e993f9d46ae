"""How a connection ends: a lingering close, a close, or a reset.

Rule: a client that may still be sending can read its last response before the
connection is closed. A client that stops reading is dropped.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

from ..machine.send_queue import unacknowledged
from .deadlines import NEVER
from .phases import BODY, DEAF, HEAD, SHUT
from .reading import Reading
from .service import ServerState, Service

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # socket(7): SO_LINGER, for zero seconds


class Closing(Reading):
    """A connection, and the ways to close it."""

    __slots__ = (
        "_unacknowledged",
        "deadline",
        "draining",
        "loop",
        "server_state",
        "service",
        "stalled",
    )

    def __init__(self, service: Service, server_state: ServerState) -> None:
        super().__init__(service.limits)
        self.service = service
        self.server_state = server_state
        self.loop = service.loop
        self.draining = False
        self.deadline = self.stalled = NEVER  # turns of the clock
        self._unacknowledged = 0  # bytes, at the last look at a slow client

    def lingering_close(self, *, pipelined: bool) -> None:
        """Send our end, and close once the client has sent its own.

        Bytes that arrive and are not read make the kernel reset the connection, and
        the client may lose a response that it has not read yet: RFC 9112 section 9.6.
        TLS cannot close one side only, so there we linger only if the client was seen
        to send: requests were *pipelined*, or one has come in part.
        """
        sending = pipelined or self.phase in (HEAD, BODY, DEAF)
        one_sided = self.transport.can_write_eof()
        if self.phase is SHUT or not (sending or one_sided):
            self.close()
            return
        self.stop_listening()
        self.resume_reading()
        if one_sided:
            with suppress(OSError):  # asyncio raises it if the client has already gone
                self.transport.write_eof()
        self.deadline = self.service.clock.turn + self.service.linger_turns

    def reset(self) -> None:
        """Reset the connection: an orderly end would make half a body look whole."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.transport.abort()

    def close(self) -> None:
        """Close once the client has taken what is sent to it."""
        self.transport.close()
        self._await_flush()

    def close_idle(self) -> None:
        """Close, and wait only briefly for the client's end."""
        self.close()
        if self.transport.get_write_buffer_size():
            return
        if self.draining:  # later, when the loop has written the TLS close_notify
            self.loop.call_soon(self.transport.abort)
        else:
            self.deadline = self.service.clock.turn + self.service.close_notify_turns

    def _await_flush(self) -> None:
        """Let the client take what is left; it has less time where a stop waits."""
        service = self.service
        patience = service.close_notify_turns if self.draining else service.stall_turns
        self.deadline = service.clock.turn + patience
        self._unacknowledged = unacknowledged(self.transport)

    def expire_idle(self) -> None:
        """Close, wait on for a slow reader, or drop one that has stopped reading."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and self._unacknowledged != unacknowledged(self.transport):
            self._await_flush()
        elif unsent or self.transport.is_closing():
            self.transport.abort()
        else:
            self.close_idle()
