"""The answering half of a connection: requests to responses, in order.

The rule: one `cycle` is answered at a time, the `queue` holds the requests pipelined
behind it, and whatever is answered goes out in the order in which it was asked, the
refusals too. A close that we choose is announced in the response before it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, ClassVar

from .accessrecord import AccessRecord
from .cycle import Cycle
from .reading import BODY, DEAF, FRESH, HEAD, IDLE, Reading
from .refusal import Refusal
from .sweep import NEVER

if TYPE_CHECKING:
    from uvicorn.server import ServerState

    from .service import Service

# Requests that may wait behind one in flight. Reading stops at the first, so this
# bounds what a single read can hold: 256 KB of tiny requests would be 14,000 tasks.
# The last one that fits announces the close; RFC 9112 section 9.3.2 provides for it.
PIPELINED = 128

NO_LINGER = struct.pack("ii", 1, 0)  # socket(7): close() sends a reset


class Answering(Reading):
    """A connection as far as its responses are written."""

    #: Seconds in which an idle connection is still served after `shutdown()`.
    DRAIN_WINDOW: ClassVar[float] = 2.0

    __slots__ = (
        "_unsent",
        "client",
        "cycle",
        "deadline",
        "draining",
        "gate",
        "loop",
        "queue",
        "server_state",
        "service",
        "stalled",
    )

    def __init__(self, service: Service, server_state: ServerState) -> None:
        super().__init__(service.limits)
        self.service = service
        self.server_state = server_state
        self.loop = service.loop
        self.client: tuple[str, int] | None = None
        self.cycle: Cycle | None = None
        self.queue: deque[Cycle] | None = None
        self.gate: asyncio.Event | None = None  # shut while the client is slow
        self.draining = False
        self.deadline = self.stalled = NEVER  # turns of the sweep
        self._unsent = 0  # bytes, when a slow client was last looked at

    # -- requests

    def serve(self, cycle: Cycle) -> None:
        """Start the app, or let the request wait behind the one in flight."""
        if self.cycle is not None:
            self._enqueue(cycle)
            return
        self.cycle = cycle
        if cycle.refusal is not None:
            self._answer(cycle, cycle.refusal)
            return
        service = self.service
        self.deadline = service.sweep.turn + service.request_turns
        cycle.task = task = service.spawn(cycle.run(service.app))
        if not cycle.over:  # an eager task may be
            service.tasks.add(task)

    def _enqueue(self, cycle: Cycle) -> None:
        if self.queue is None:
            self.queue = deque()
        self.queue.append(cycle)
        self.pause_reading()
        if len(self.queue) == PIPELINED:
            cycle.keep_alive = False

    # -- responses

    def pause_writing(self) -> None:
        """Let `send()` wait: the client reads slower than the app writes."""
        self.gate = asyncio.Event()

    def resume_writing(self) -> None:
        """Let `send()` go on."""
        if self.gate is not None:
            self.gate.set()
            self.gate = None

    def may_stay(self, cycle: Cycle) -> bool:
        """Tell whether the connection outlives the response that *cycle* begins."""
        if self.draining and not self.queue:
            return False
        # A client that still waits for "100 Continue" may send its body or may not:
        # the next bytes could be either, a body or a request.
        return not (cycle.more_body and cycle.awaits_continue())

    def answered(self, cycle: Cycle) -> None:
        """Go on after a complete response."""
        self.server_state.total_requests += 1
        service = self.service
        if service.record is not None:
            self._report(cycle)
        self.cycle = None
        if not cycle.keep_alive:
            self._leave()
        elif self.queue:
            self.serve(self.queue.popleft())
        else:
            self.deadline = service.sweep.turn + service.keepalive_turns
            if self.phase is not IDLE or self._paused or self.draining:
                self._await_request()

    def abandon(self, cycle: Cycle, refusal: Refusal) -> None:
        """End a response that the app will not: say why, or cut it off."""
        if not cycle.status:
            self._answer(cycle, refusal)
            return
        cycle.flush()
        cycle.disconnect(lost=True)
        self.resume_writing()  # who waits in send() learns of it
        self._report(cycle)
        self.cycle = None
        self.stop_listening()
        if cycle.length is None and not cycle.chunked:
            self._reset()
        else:
            self._close()

    def refuse(self, refusal: Refusal) -> None:
        """Answer a fault in its turn, and read no more."""
        self.complain(refusal)
        cycle = self.incoming if self.phase is BODY else self._unborn()
        self.stop_listening()
        if cycle is None or cycle.complete:
            self._leave()
        elif cycle is self.cycle:
            self._interrupt(cycle, refusal)
        else:
            cycle.refusal = refusal
            if not self.queue or self.queue[-1] is not cycle:
                self.serve(cycle)

    def _unborn(self) -> Cycle:
        """Make a cycle for a request whose head never ended."""
        scope = self.describe()
        cycle = Cycle(self, scope, False)
        cycle.head_only = scope["method"] == "HEAD"
        if self.service.record is not None:
            cycle.target, cycle.started = self.url, self.loop.time()
        return cycle

    def complain(self, refusal: Refusal) -> None:
        """Tell the log of a request that is refused."""
        self.service.complaints.tell(self.service.sweep.turn, refusal, self.client)

    def _interrupt(self, cycle: Cycle, refusal: Refusal) -> None:
        """Refuse a request whose app runs already."""
        if not cycle.begun and cycle.task is not None:
            cycle.task.cancel()  # the coroutine will never run, nor forget itself
            self.service.tasks.discard(cycle.task)
        if cycle.status:
            cycle.keep_alive = False
            cycle.disconnect(lost=False)
        else:
            self._answer(cycle, refusal)

    def _answer(self, cycle: Cycle, refusal: Refusal) -> None:
        """Answer in the app's stead, and leave."""
        cycle.status, cycle.headers = refusal.status, refusal.headers
        head_only = cycle.head_only
        cycle.sent = 0 if head_only else len(refusal.body)
        self.transport.write(
            refusal.render(self.service.default_lines(), head_only=head_only)
        )
        cycle.complete = True
        cycle.disconnect(lost=True)
        self._report(cycle)
        self.cycle = None
        self._leave()

    def _report(self, cycle: Cycle) -> None:
        record = self.service.record
        if record is not None and cycle.status:
            record(
                AccessRecord(
                    cycle.scope,
                    self.client,
                    cycle.status,
                    [*self.server_state.default_headers, *cycle.headers],
                    cycle.sent,
                    self.loop.time() - cycle.started,
                    cycle.target,
                )
            )

    # -- ends

    def give_up(self, refusal: Refusal) -> None:
        """End the request in flight: its time is over."""
        cycle = self.cycle
        if cycle is not None:
            self.abandon(cycle, refusal)
            if cycle.task is not None:
                cycle.task.cancel()

    def drop(self, grace: float | None) -> None:
        """Tell the apps that the connection is lost; cancel after *grace* seconds."""
        cycle, self.cycle, self.queue = self.cycle, None, None
        if cycle is not None:
            cycle.disconnect(lost=True)
            self._report(cycle)
            if grace is not None and cycle.task is not None:
                self.loop.call_later(grace, cycle.task.cancel)

    def open_window(self) -> None:
        """Let a request that is under way arrive; then close."""
        self.loop.call_later(self.DRAIN_WINDOW, self._close_window)

    def _await_request(self) -> None:
        self.resume_reading()
        if self.phase is HEAD:
            self.deadline = self.service.sweep.turn + self.service.header_turns
        if self.draining:
            self.open_window()

    def _leave(self) -> None:
        """Close, but not in the face of a client that may still be sending."""
        self.queue = None
        if self.phase is BODY or self.phase is DEAF:
            self.stop_listening()
            self.resume_reading()
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self.deadline = self.service.sweep.turn + self.service.linger_turns
        else:
            self._close()

    def _reset(self) -> None:
        """Break the connection: an orderly end would make half a body look whole."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self.transport.abort()

    def _close(self) -> None:
        self.transport.close()
        self._unsent = 0
        self.deadline = self.service.sweep.turn + self.service.stall_turns

    def _close_idle(self) -> None:
        self._close()
        if not self.transport.get_write_buffer_size():
            self.deadline = self.service.sweep.turn + self.service.farewell_turns

    def _close_window(self) -> None:
        """End an idle connection, once the loop has read what came meanwhile."""
        self.loop.call_later(0, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.cycle is not None or self.transport.is_closing():
            return
        if self.phase is HEAD:
            self.refuse(Refusal(503))
        elif self.phase is not DEAF:
            self._close_idle()

    # -- deadlines

    def waiting(self, *, begun: bool) -> None:
        """Set the deadlines of a request that has come in part."""
        service = self.service
        turn = service.sweep.turn
        if self.phase is BODY:
            self.stalled = turn + service.body_turns
            if self.cycle is None:  # answered early, and the rest is dropped
                self.deadline = turn + service.keepalive_turns
        elif begun and self.cycle is None:
            self.deadline = turn + service.header_turns

    def expire(self) -> None:
        """Act on a deadline that has passed."""
        if self.transport.is_closing():
            self._expire_idle()
        elif self.cycle is not None:
            self._expire_request()
        elif self.phase in (FRESH, HEAD) and not self.draining:
            self.refuse(Refusal(408))
        else:
            self._expire_idle()

    def _expire_request(self) -> None:
        assert self.cycle is not None
        if self.deadline > self.service.sweep.turn:
            self.stalled = NEVER
            if self.phase is BODY and not self._paused:
                self.refuse(Refusal(408, "the body stalled for body_timeout"))
            return
        self.deadline = NEVER
        self.give_up(Refusal(504, "the app took longer than request_timeout"))

    def _expire_idle(self) -> None:
        """Close, or wait for a slow reader, or break with one that has stopped."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent != self._unsent:
            self._unsent = unsent
            self.deadline = self.service.sweep.turn + self.service.stall_turns
        elif unsent or self.transport.is_closing():
            self.transport.abort()
        else:
            self._close_idle()
