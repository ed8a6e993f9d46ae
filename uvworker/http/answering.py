"""The answering half of a connection: requests to responses, in order.

Rule: one `cycle` is answered at a time, and the `queue` holds the requests pipelined
behind it. Responses go out in the order of the requests, refusals too. If the server
chooses to close, the response before the close announces it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import ClassVar

from ..access.record import AccessRecord
from .closing import Closing
from .cycle import Cycle
from .deadlines import NEVER
from .phases import BODY, DEAF, HEAD, IDLE, SHUT
from .refusal import Refusal
from .service import ServerState, Service

# Requests that may wait behind one in flight. Reading stops at the first, so this
# bounds what a single read can hold: 256 KB of tiny requests would be 14,000 tasks.
# The response to the last one announces the close: RFC 9112 section 9.3.2 allows it.
MAX_PIPELINED = 128

# The status of a request whose client left before anything was sent: nginx's number.
CLIENT_LEFT = 499


class Answering(Closing):
    """A connection, up to the responses that it writes."""

    #: Seconds in which an idle connection is still served after `shutdown()`.
    DRAIN_WINDOW: ClassVar[float] = 2.0

    # Set with the peer's address, by `Connection`
    gathers: bool
    scheme: str

    __slots__ = (
        "client",
        "cycle",
        "gate",
        "gathers",
        "queue",
    )

    def __init__(self, service: Service, server_state: ServerState) -> None:
        super().__init__(service, server_state)
        self.client: tuple[str, int] | None = None
        self.cycle: Cycle | None = None
        self.queue: deque[Cycle] | None = None
        self.gate: asyncio.Event | None = None  # shut while the client is slow

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
        self.deadline = service.clock.turn + service.request_turns
        cycle.task = task = service.spawn(cycle.run(service.app))
        if not cycle.over:  # an eager task may be
            service.tasks.add(task)

    def _enqueue(self, cycle: Cycle) -> None:
        if self.queue is None:
            self.queue = deque()
        self.queue.append(cycle)
        assert self.cycle is not None
        if not self.cycle.listens():
            self.pause_reading()
        if len(self.queue) == MAX_PIPELINED:
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
        """Return whether the connection stays open after the response to *cycle*."""
        if self.draining and not self.queue:
            return False
        # A client that still waits for "100 Continue" may or may not send its body:
        # the next bytes could be a body or a request.
        return not (cycle.more_body and cycle.awaits_continue())

    def answered(self, cycle: Cycle) -> None:
        """Go on after a complete response."""
        self.server_state.total_requests += 1
        service = self.service
        if service.timed:
            self.report(cycle)
        self.cycle = None
        if not cycle.keep_alive:
            self._finish()
        elif self.queue:
            self.serve(self.queue.popleft())
        else:
            self.deadline = service.clock.turn + service.keepalive_turns
            if self.phase is not IDLE or self._paused or self.draining:
                self._await_request()

    def abandon(self, cycle: Cycle, refusal: Refusal) -> None:
        """End a response that the app does not end: send *refusal*, or cut it off."""
        if not cycle.status:
            self._answer(cycle, refusal)
            return
        cycle.flush()
        cycle.disconnect(lost=True)
        self.resume_writing()  # an app that waits in send() goes on
        self.report(cycle)
        self.cycle = None
        self.stop_listening()
        if cycle.length is None and not cycle.chunked:
            self.reset()
        else:
            self.close()

    def refuse(self, refusal: Refusal) -> None:
        """Answer a faulty request in its turn, and stop reading."""
        self.log_refusal(refusal)
        cycle = self.incoming if self.phase is BODY else self._unfinished_request()
        self.stop_listening()
        if cycle is None or cycle.complete:
            self._finish()
        elif cycle is self.cycle:
            self._interrupt(cycle, refusal)
        else:
            cycle.refusal = refusal
            if not self.queue or self.queue[-1] is not cycle:
                self.serve(cycle)

    def _unfinished_request(self) -> Cycle:
        """Return a cycle for a request whose head did not end."""
        scope = self.describe()
        cycle = Cycle(self, scope, False)
        cycle.head_only = scope["method"] == "HEAD"
        if self.service.timed:
            cycle.target, cycle.started = self.url, monotonic()
        return cycle

    def log_refusal(self, refusal: Refusal, what: str = "a request") -> None:
        """Count that *what* is refused, and log it, but not each time if often."""
        service = self.service
        if service.tally is not None:
            service.tally.refuse(refusal.status)
        service.refusal_log.write(service.clock.turn, refusal, self.client, what)

    def _interrupt(self, cycle: Cycle, refusal: Refusal) -> None:
        """Refuse a request whose app already runs."""
        if not cycle.begun and cycle.task is not None:
            cycle.task.cancel()  # it never runs, so it does not discard itself
            self.service.tasks.discard(cycle.task)
        if cycle.status:
            cycle.keep_alive = False
            cycle.disconnect(lost=False)
        else:
            self._answer(cycle, refusal)

    def _answer(self, cycle: Cycle, refusal: Refusal) -> None:
        """Send *refusal* instead of the app's response, and close."""
        cycle.status, cycle.headers = refusal.status, refusal.headers
        head_only = cycle.head_only
        cycle.sent = 0 if head_only else len(refusal.body)
        self.transport.write(
            refusal.render(self.service.default_lines(), head_only=head_only)
        )
        cycle.complete = True
        cycle.disconnect(lost=True)
        self.report(cycle)
        self.cycle = None
        self._finish()

    def report(self, cycle: Cycle) -> None:
        """Give an answered request to the tally and to the access record."""
        service = self.service
        if not service.timed:
            return
        try:
            duration = monotonic() - cycle.started
        except AttributeError:  # the recorder is newer than the request
            return
        if service.tally is not None:
            method = cycle.scope.get("method", "GET")  # as of a WebSocket
            service.tally.count(
                method, cycle.status, duration, cycle.received, cycle.sent
            )
        if service.record is not None:
            status = int(cycle.status)  # an enum would log its name
            ours = () if status == CLIENT_LEFT else self.server_state.default_headers
            service.record(
                AccessRecord(
                    cycle.scope,
                    self.client,
                    status,
                    [*ours, *cycle.headers],
                    cycle.sent,
                    duration,
                    cycle.target,
                )
            )

    # -- ends

    def give_up(self, refusal: Refusal) -> None:
        """End the request in flight, and cancel its app."""
        cycle = self.cycle
        if cycle is not None:
            self.abandon(cycle, refusal)
            if cycle.task is not None:
                cycle.task.cancel()

    def drop(self, grace: float | None) -> None:
        """Tell the apps that the connection is lost; cancel after *grace* seconds."""
        self.cancel_after(grace)
        cycle, waiting = self.cycle, self.queue or ()
        self.cycle = self.queue = None
        if cycle is None:
            return
        for each in (cycle, *waiting):
            each.disconnect(lost=True)
            if each.head or not each.status:
                each.status, each.headers = CLIENT_LEFT, ()
            self.report(each)

    def client_left(self) -> bool:
        """Return whether the client has sent its end; if so, reset the connection."""
        if self.phase is not SHUT:
            return False
        self.reset()
        return True

    def cancel_after(self, grace: float | None) -> None:
        """Cancel the app in flight after *grace* seconds; never if None."""
        cycle = self.cycle
        if grace is not None and cycle is not None and cycle.task is not None:
            self.loop.call_later(grace, cycle.task.cancel)

    def open_window(self) -> None:
        """Wait `DRAIN_WINDOW` for a request that may be under way; then close."""
        self.loop.call_later(self.DRAIN_WINDOW, self._close_window)

    def _await_request(self) -> None:
        self.resume_reading()
        if self.phase is HEAD:
            self.deadline = self.service.clock.turn + self.service.header_turns
        if self.draining:
            self.open_window()

    def _finish(self) -> None:
        """Close after the last response."""
        pipelined, self.queue = bool(self.queue), None
        self.lingering_close(pipelined=pipelined)

    def _close_window(self) -> None:
        """Close an idle connection, once the loop has read what arrived meanwhile."""
        self.loop.call_later(0, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.cycle is not None or self.transport.is_closing():
            return
        if self.phase is HEAD:
            self.refuse(Refusal(503))
        elif self.phase is not DEAF:
            self.close_idle()

    # -- deadlines

    def waiting(self, *, begun: bool) -> None:
        """Set the deadlines of a request of which a part has arrived."""
        service = self.service
        turn = service.clock.turn
        if self.phase is BODY:
            self.stalled = turn + service.body_turns
            if self.cycle is None:  # answered early, and the rest is dropped
                self.deadline = turn + service.keepalive_turns
        elif begun and self.cycle is None:
            self.deadline = turn + service.header_turns

    def expire(self) -> None:
        """Act on a deadline that has passed."""
        if self.transport.is_closing():
            self.expire_idle()
        elif self.cycle is not None:
            self._expire_request()
        elif self.phase is HEAD and not self.draining:
            self.refuse(Refusal(408))
        else:
            self.expire_idle()

    def _expire_request(self) -> None:
        assert self.cycle is not None
        if self.deadline > self.service.clock.turn:
            self.stalled = NEVER
            if self.phase is BODY and not self._paused:
                self.refuse(Refusal(408, "the body stalled for body_timeout"))
            return
        self.deadline = NEVER
        self.give_up(Refusal(504, "the app took longer than request_timeout"))
