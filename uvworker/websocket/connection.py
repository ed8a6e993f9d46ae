"""A WebSocket on its transport: reading, deadlines, and how it ends.

Rule: nothing lasts for ever. A client is pinged, one that does not read is cut, each
close has a deadline, and what a client sends after its fault is ignored.

The server closes first (RFC 6455 section 7.1.1), so the client has the last word: it
is behind its own close frame, or behind the end that our half of the connection has.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

from ..machine.send_queue import unacknowledged
from . import frames
from .channel import CLOSED, CLOSING, OPEN, Channel, Handshake
from .deflate import Agreement
from .frames import (
    ABNORMAL,
    BINARY,
    CLOSE,
    FIN,
    INTERNAL_ERROR,
    PING,
    PONG,
    RESTART,
    TEXT,
    Decoder,
    Failure,
)
from .leftovers import is_ended, withheld
from .service import Service

NEVER = sys.maxsize  # turns of the clock

# Bytes of messages that wait for the app before the client has to.
HIGH_WATER = 65536

A_PING = frames.head(FIN | PING, 0)


class WebSocket(Channel, asyncio.Protocol):
    """One connection; open once `start` is called."""

    __slots__ = (
        "_decoder",
        "_heard",
        "_pinged",
        "_pong",
        "_taken",
        "_taken_at_ping",
        "deadline",
        "stalled",
    )

    def __init__(
        self, service: Service, agreement: Agreement | None, handshake: Handshake
    ) -> None:
        super().__init__(service, agreement, handshake)
        self.deadline = self.stalled = NEVER  # turns of the clock
        self._decoder: Decoder | None = None  # None: whatever comes is dropped
        self._heard = False  # anything, since the last ping
        self._pinged = False
        self._pong: bytes | None = None  # owed, while the client does not read
        # Bytes, when a slow client was last looked at, and when it was last pinged
        self._taken = self._taken_at_ping = 0

    def start(self, transport: asyncio.Transport, early: bytes) -> None:
        """Speak WebSocket on *transport*, from which *early* was read already."""
        service = self._service
        self.transport = transport
        self._layered = transport.get_extra_info("sslcontext") is not None
        self._decoder = Decoder(service.max_size, self._deflate)
        self._wait(service.ping_turns)
        service.clock.watch(self)
        if early:
            self.data_received(early)

    # -- asyncio

    def data_received(self, data: bytes) -> None:
        """Read what has come, as far as the app keeps up."""
        if self._decoder is not None:
            self._heard = True
            self._decoder.feed(data)
            if not self._paused:
                self._read()

    def pause_writing(self) -> None:
        """Let `send()` wait: the client reads slower than the app writes."""
        self._gate = asyncio.Event()
        self.stalled = self._service.clock.turn + self._service.stall_turns

    def resume_writing(self) -> None:
        """Let `send()` go on."""
        self.stalled = NEVER
        self.open_gate()
        pong, self._pong = self._pong, None
        if pong is not None and self.state == OPEN:
            self._control(PONG, pong)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """End: whatever waits learns of it, behind the messages that came before."""
        self._service.clock.forget(self)
        if self.state == CLOSING:
            self._decoder = None
        self.state = CLOSED
        self._handshake.leave()
        self.open_gate()
        if not self._paused:
            self._read()
        self._handshake.end(self, self._sent)

    # -- reading

    def _read(self) -> None:
        try:
            while (decoder := self._decoder) is not None:
                event = decoder.next()
                if event is None:
                    if self.state != CLOSED:
                        return
                    if rest := withheld(self.transport):
                        decoder.feed(rest)
                    else:
                        self._hang_up()
                    continue
                opcode, payload = event
                if opcode > BINARY:
                    self._obey(opcode, payload)  # type: ignore[arg-type]  # as bytes
                elif self.state != CLOSING and self._is_full(opcode, payload):
                    self._paused = True
                    if self.state == OPEN:
                        self.transport.pause_reading()
                    return
        except Failure as failure:
            self._fail(failure.code, failure.reason)
            self._handshake.log_failure(failure.code, failure.reason)

    def _is_full(self, opcode: int, payload: str | bytes) -> bool:
        """Queue a message, and tell whether the client has to wait."""
        key = "text" if opcode == TEXT else "bytes"
        self.put({"type": "websocket.receive", key: payload}, len(payload))
        return self._queued >= HIGH_WATER or len(self._queue) >= self._service.max_queue

    def resume_reading(self) -> None:
        """Let the client go on: the app has taken all that there was."""
        self._paused = False
        # Once it is lost, TLS of Python 3.10's asyncio says neither, and raises.
        if self.state != CLOSED and not self.transport.is_closing():
            self.transport.resume_reading()
        self._read()

    def _obey(self, opcode: int, payload: bytes) -> None:
        """Act on a control frame."""
        if opcode == CLOSE:
            self._closed(*frames.read_close(payload))
        elif opcode == PONG:
            if self._pinged:
                self._pinged = False
                self._wait(self._service.ping_turns)
        elif self.state == OPEN:
            if self._gate is None:
                self._control(PONG, payload)
            else:  # only the last ping needs an answer: section 5.5.3
                self._pong = payload

    def _closed(self, code: int, reason: str) -> None:
        """Answer the client's close frame, or take it for the answer; and close."""
        if self.state == OPEN:
            self.transport.write(frames.close(code, reason))
            self.state = CLOSING
            self.disconnected(code, reason)
        self.tell(code, reason)  # if the connection was lost behind it
        self._hang_up()

    # -- ends

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame and await the client's."""
        self.transport.write(frames.close(code, reason))
        self.state = CLOSING
        self.disconnected(code, reason)
        self._wait(self._service.close_turns)
        if self._paused:
            self.resume_reading()

    def finish(self, code: int) -> None:
        """Close, if the app has not: it is done."""
        if self.state == OPEN:
            self.close(code)

    def _fail(self, code: int, reason: str) -> None:
        """Tell the client why and listen no more, but wait until it has heard."""
        self._decoder = None
        if self.state != OPEN:
            self._hang_up()
            return
        self.transport.write(frames.close(code, reason))
        self.state = CLOSING
        self.disconnected(code, reason)
        if self.transport.can_write_eof():
            with suppress(OSError):  # asyncio's, of a client that is gone already
                self.transport.write_eof()
        self._wait(self._service.linger_turns)

    def _hang_up(self) -> None:
        """Close; over TLS that awaits the client's goodbye, but not for long.

        If the connection is lost already, the app has now read all that came by it.
        """
        self._decoder = None
        if self.state == CLOSED:
            self.tell(ABNORMAL)
            return
        self.state = CLOSED
        self.transport.close()
        service, unsent = self._service, self.transport.get_write_buffer_size()
        self._wait(service.stall_turns if unsent else service.linger_turns)

    # -- the server

    def shutdown(self) -> None:
        """Close with 1012: the client may come back, to another worker."""
        if self.state == OPEN:
            self.close(RESTART)

    def disconnect(self) -> None:
        """Cut a client that does not answer the close."""
        self.transport.abort()

    def cut(self) -> None:
        """End at once."""
        self.transport.abort()

    # -- deadlines

    def expire(self) -> None:
        """Act on a deadline that has passed."""
        turn = self._service.clock.turn
        if self.state == OPEN and self.deadline <= turn:
            self._ping()
        elif self.deadline <= turn or self.stalled <= turn:
            self._cut_if_stuck()

    def _ping(self) -> None:
        """Ask for a sign of life, or act on there being none.

        Whatever the client sends is one, as its pong may be behind a long message, and
        so is what it takes. A client that has to wait for the app can give none.
        """
        service = self._service
        before, self._taken_at_ping = self._taken_at_ping, self._progress()
        takes = self._taken_at_ping > before
        if self._pinged and not (self._heard or self._paused or takes):
            self._fail(INTERNAL_ERROR, "keepalive ping timeout")
            return
        if self._gate is None:  # else `stalled` looks after it
            self.transport.write(A_PING)
            self._pinged = service.awaits_pongs
            self._heard = False
        if self._paused:
            self._look_for_end()
        if self._deflate is not None:
            self._deflate.rest()
        self._wait(service.pong_turns if self._pinged else service.ping_turns)

    def _look_for_end(self) -> None:
        """Read on behind a client's end: its messages wait in the decoder."""
        if not self.transport.is_closing() and is_ended(self.transport):
            self.transport.resume_reading()

    def _cut_if_stuck(self) -> None:
        """Cut a client that has taken nothing since the last look, or all there was."""
        before, self._taken = self._taken, self._progress()
        if self._taken <= before:
            self.transport.abort()
        elif self.state == OPEN:
            self.stalled = self._in_a_while()
        else:
            self.deadline = self._in_a_while()
            self.stalled = NEVER

    def _progress(self) -> int:
        """Return the bytes of messages that a client has taken; 0 if no more wait.

        A control frame that waits counts as so much less, and so is no sign of life.
        """
        unsent = unacknowledged(self.transport)
        return unsent and self._written - unsent

    def _in_a_while(self) -> int:
        return self._service.clock.turn + self._service.stall_turns

    def _wait(self, turns: int) -> None:
        self.deadline = self._service.clock.turn + turns

    def _control(self, opcode: int, payload: bytes) -> None:
        self.transport.write(frames.head(FIN | opcode, len(payload)) + payload)
