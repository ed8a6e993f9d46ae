"""One HTTP/2 connection: frames to requests, within limits (RFC 9113).

The framing is zttp's, which also keeps HPACK and the floods within bounds. Rule: what
holds for a request over HTTP/1.1 holds for each stream, by the same settings and in the
same words; a stream that is refused or lost costs no other one.

This room imports zttp, so that only a worker that speaks HTTP/2 may import it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic
from typing import Any, ClassVar

import zttp

from ..http.answering import CLIENT_LEFT
from ..http.connection import Connection
from ..http.deadlines import NEVER
from ..http.refusal import BODY_TOO_LONG, RETRY_AFTER, Refusal
from ..machine.send_queue import unacknowledged
from .head import check, describe
from .stream import Stream, fields_of
from .wire import Framing

# Error codes: RFC 9113 section 7.
NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL = 0, 2, 7, 8

# What of a connection a stream and a client's reset wear out: zttp takes it for a flood
# behind 4,096 of the one or 256 of the other, however long it stands, and has no
# setting for that. So it ends well before: once it is worn and nothing is in flight,
# or, if something always is, with a GOAWAY in front of the last responses. Clients on
# Python's h2 take nothing behind a GOAWAY, so the first way comes first.
STREAM, RESET = 1 / 4096, 1 / 256
WORN, WORN_OUT = 0.75, 0.875

# Section 6.8: behind a GOAWAY that names this stream, everything is served until the
# client has read it. haproxy answers 502 for what it has sent beyond any other.
LAST_STREAM = 2**31 - 1
CROSSING = 1.0  # seconds until the client has read it: more than a round trip


class HTTP2Connection(Framing):
    """The streams of one connection.

    Args:
        peer: the connection as HTTP/1.1 would have served it. It knows the client,
            what is believed of it, and how a request is recorded.

    """

    #: Seconds in which a connection is still served after `shutdown()`.
    DRAIN_WINDOW: ClassVar[float] = 2.0

    def __init__(self, peer: Connection) -> None:
        super().__init__(peer)
        service = peer.service
        self.server_state = peer.server_state
        self.draining = False
        self.deadline = service.clock.turn + service.header_turns
        self.stalled = NEVER
        # Tasks of unanswered streams, also of those that the client has reset.
        self._apps: set[asyncio.Task[None]] = set()
        self._stall_turns = service.clock.turns(self.limits.stream_stall)
        # A kernel tells of room only in large steps, so that one which holds megabytes
        # for a slow reader may be silent for many seconds.
        self._reader_turns = max(self._stall_turns, service.stall_turns)
        self._parallel = False  # there were several requests at a time
        self._leaving = False  # a further request is answered with GOAWAY before it
        self._crossed = 0  # the turn of the clock at which what crossed it is here
        self._unacknowledged = 0  # bytes, when a slow client was last looked at
        self._wear = 0.0  # by its streams and resets

    # -- asyncio

    def begin(self, data: bytes = b"") -> None:
        """Take the connection over; *data* has come already."""
        self.server_state.connections.add(self)
        self.service.clock.watch(self)
        super().begin(data)

    def eof_received(self) -> None:
        """Close: a client that sends no more has left."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """End: the apps hear of it, and may go on for `disconnect_grace` seconds."""
        self.server_state.connections.discard(self)
        self.service.clock.forget(self)
        for stream in list(self.streams.values()):
            self._lose(stream)
        self.resume_writing()

    def pause_writing(self) -> None:
        """Wait for a client that does not read, but not for ever."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        super().resume_writing()
        self.stalled = NEVER

    # -- events in

    def take(self, event: Any) -> None:
        """Act on one event of zttp's."""
        if isinstance(event, zttp.Request):
            self._open(event)
        elif isinstance(event, zttp.GoAway):
            self._crossed = self.service.clock.turn  # it sends no further request
            self._retire()
        elif isinstance(event, (zttp.Ping, zttp.Settings)):
            self.count_chatter()
            service = self.service
            if service.keepalive and not self.streams:  # it stands, and asks nothing
                turn = service.clock.turn
                self.deadline = min(self.deadline, turn + service.keepalive_turns)
        elif isinstance(event, (zttp.Data, zttp.EndOfMessage, zttp.RstStream)):
            self._take_of_stream(event, self.streams.get(event.stream_id))

    def _take_of_stream(self, event: Any, stream: Stream | None) -> None:
        if isinstance(event, zttp.RstStream):
            self.count_chatter()
            self._wear += RESET
            if stream is not None:
                self._lose(stream)
        elif isinstance(event, zttp.EndOfMessage):
            if stream is not None:
                stream.end_body()
        elif not event.data:
            self.count_chatter()
        elif stream is not None:
            self._feed(stream, event.data)

    def _open(self, event: Any) -> None:
        self._wear += STREAM
        if self._leaving or self._wear > WORN_OUT:
            self._say_goodbye()
        wire = self.wire.stream(event.stream_id)
        if len(self._apps) >= self.limits.streams:
            wire.reset(REFUSED_STREAM)  # the client may ask again: section 8.7
            return
        scope = describe(event, self.peer)
        stream = Stream(self, scope, wire)
        self._parallel = self._parallel or bool(self.streams)
        self.streams[event.stream_id] = stream
        self.deadline = NEVER
        service = self.service
        if service.timed:
            stream.target, stream.started = event.target, monotonic()
        try:
            self._admit(event, scope)
        except Refusal as refusal:
            stream.more_body = not event.end_stream
            self._refuse(stream, refusal)
            return
        if event.end_stream:
            stream.more_body = False
        self._start(stream)

    def _admit(self, event: Any, scope: dict[str, Any]) -> None:
        if self.service.full():
            raise Refusal(503, "limit_concurrency is reached", RETRY_AFTER)
        check(event, scope, self.peer)
        if self.peer.trusted:
            self.peer.forward(scope)

    def _start(self, stream: Stream) -> None:
        service = self.service
        turn = service.clock.turn
        stream.deadline = turn + service.request_turns
        if stream.more_body:
            stream.stalled = turn + service.body_turns
        if min(stream.deadline, stream.stalled) < NEVER:
            service.clock.watch(stream)
        stream.task = task = service.spawn(stream.run(service.app))
        if not stream.over:  # an eager task may be
            service.tasks.add(task)
            self._apps.add(task)
            task.add_done_callback(self._apps.discard)

    def _feed(self, stream: Stream, data: bytes) -> None:
        stream.received += len(data)
        if stream.complete:
            if stream.lingers and not self.draining:
                self._linger(stream)
            return
        if stream.received > self.limits.max_body_size:
            self._refuse(stream, Refusal(413, BODY_TOO_LONG))
        else:
            stream.feed(data)

    # -- responses

    def resume_reading(self) -> None:
        """Nothing waits: each stream has a window of its own."""

    def may_stay(self, stream: Stream) -> bool:  # noqa: ARG002 - HTTP/1.1's
        """Tell that a response says nothing of its connection."""
        return True

    def client_left(self) -> bool:
        """Tell that no stream goes on without its client."""
        return False

    def answered(self, stream: Stream) -> None:
        """Go on after a complete response."""
        self.server_state.total_requests += 1
        self._end(stream)

    def abandon(self, stream: Stream, refusal: Refusal) -> None:
        """End a response that the app will not: say why, or cut it off."""
        if not stream.status:
            self._answer(stream, refusal)
            return
        stream.complete = True
        stream.disconnect(lost=True)
        stream.wire.reset(INTERNAL_ERROR)
        self.peer.report(stream)
        self._forget(stream)
        self.flush_soon()

    def _refuse(self, stream: Stream, refusal: Refusal) -> None:
        """Answer a fault; an app that runs already hears that the client leaves."""
        self.peer.log_refusal(refusal)
        self._cancel_unbegun(stream)
        self.abandon(stream, refusal)

    def _answer(self, stream: Stream, refusal: Refusal) -> None:
        """Answer in the app's stead."""
        fields, _ = fields_of(refusal.headers, self.server_state.default_headers)
        stream.status, stream.headers = refusal.status, refusal.headers
        stream.wire.send_response(refusal.status, fields)
        if not stream.head_only:
            stream.wire.send_data(refusal.body)
            stream.sent = len(refusal.body)
        stream.complete = True
        stream.disconnect(lost=True)
        self._end(stream)

    def _end(self, stream: Stream) -> None:
        """End the response; what waits for the client's window goes out later."""
        try:
            stream.wire.end_message(stream.trailing or None)
        except Exception:
            stream.complete = False  # so that it is cut off, as after any other fault
            raise
        if stream.task is not None:  # it may go on, with what it does in the background
            self._apps.discard(stream.task)
        if self.service.timed:
            self.peer.report(stream)
        stream.deadline = stream.stalled = NEVER
        stream.chunks, stream.buffered = (), 0  # nobody reads them any more
        if stream.credit:
            self.grant(stream)
        if stream.wire.pending_bytes:
            self.await_window(stream)
        else:
            self._close_stream(stream)
        self.flush_soon()

    def await_window(self, stream: Stream) -> None:
        """Look after a stream whose client has to take something first."""
        service = self.service
        stream.unacknowledged = stream.wire.pending_bytes
        stream.stalled = service.clock.turn + self._stall_turns
        service.clock.watch(stream)

    def _close_stream(self, stream: Stream) -> None:
        """Forget a stream once its client has sent its end too; drop what comes.

        Section 8.1 allows a reset right behind the response, but curl and httpx lose
        the response by it while they are still sending.
        """
        if not stream.more_body:
            self._forget(stream)
        elif not stream.lingers:
            self._linger(stream)

    def _linger(self, stream: Stream) -> None:
        service = self.service
        stream.deadline = service.clock.turn + service.linger_turns
        stream.stalled = NEVER  # if the response had to wait for the client's window
        service.clock.watch(stream)

    def _lose(self, stream: Stream) -> None:
        """Tell the app that its client has left; cancel it in its time."""
        self._forget(stream)
        if stream.complete:
            return
        stream.disconnect(lost=True)
        if not stream.status:
            stream.status, stream.headers = CLIENT_LEFT, ()
        self.peer.report(stream)
        grace = self.limits.disconnect_grace
        if not self._cancel_unbegun(stream) and grace is not None and stream.task:
            self.loop.call_later(grace, stream.task.cancel)

    def _cancel_unbegun(self, stream: Stream) -> bool:
        """Spare an app the request that it has not seen."""
        if stream.begun or stream.task is None:
            return False
        stream.task.cancel()  # the coroutine will never run, nor forget itself
        self.service.tasks.discard(stream.task)
        return True

    def _forget(self, stream: Stream) -> None:
        service = self.service
        service.clock.forget(stream)
        self.streams.pop(stream.wire.stream_id, None)
        if self.streams:
            return
        if self._leaving or self.draining or self._wear > WORN:
            self._retire()
        else:
            self.deadline = service.clock.turn + service.keepalive_turns

    def look_for_room(self) -> None:
        """Let go on what waited for a window that has come."""
        for stream in list(self.streams.values()):
            if stream.complete and not stream.wire.pending_bytes:
                self._close_stream(stream)
            elif stream.has_room():
                stream.open_room()

    # -- ends

    def shutdown(self) -> None:
        """Take leave: a request that is under way is still served.

        GOAWAY goes out when nothing is in flight. Section 6.8 would have a first one
        now, but clients on Python's h2 take nothing behind it: only one that asks on
        and on, behind the window, gets it while it waits for an answer.
        """
        self.draining = True
        self.loop.call_later(self.DRAIN_WINDOW, self._retire)

    def disconnect(self) -> None:
        """Tell the apps `http.disconnect`; what they send still arrives."""
        for stream in self.streams.values():
            stream.disconnect(lost=False)

    def cut(self) -> None:
        """End at once: 503 where nothing was sent, and the apps are cancelled."""
        for stream in list(self.streams.values()):
            self._give_up(stream, Refusal(503))
        self._close(NO_ERROR)

    def _give_up(self, stream: Stream, refusal: Refusal) -> None:
        if not stream.complete:
            self.abandon(stream, refusal)
        if stream.task is not None:
            stream.task.cancel()

    def _retire(self) -> None:
        """Close once nothing is in flight, and all that crossed a GOAWAY has come.

        Requests of one at a time do not cross one that comes behind an answer, and
        clients on Python's h2 take nothing behind a first one. A proxy, which needs it,
        speaks without TLS.
        """
        if self.closing or self.transport.is_closing():
            return
        self._leaving = True
        if not all(stream.lingers for stream in self.streams.values()):
            return
        if self._parallel and self.scheme == "http":
            self._say_goodbye()
        if self._crossed > self.service.clock.turn:
            self.deadline = self._crossed
        else:
            self._close(NO_ERROR)

    def _say_goodbye(self) -> None:
        """Ask the client, once, to go on by another connection."""
        if not self._crossed:
            clock = self.service.clock
            self._crossed = clock.turn + clock.turns(CROSSING)
            self.wire.close(NO_ERROR, LAST_STREAM)
            self.flush_soon()

    def blame(self, error: Exception, code: int | None) -> None:
        """End the connection for a fault that no single stream has."""
        self.peer.log_refusal(Refusal(400, str(error)), "an HTTP/2 connection")
        self._close(code)
        for stream in list(self.streams.values()):
            self._lose(stream)

    def _close(self, code: int | None) -> None:
        """Send GOAWAY with *code*, and close once the client has read everything.

        None if zttp has sent it. Without TLS only our side is closed: a frame from the
        client would else reset the connection, and it might lose the last response.
        """
        if self.closing or self.transport.is_closing():
            return
        self._leaving = True
        if code is not None:
            self.wire.close(code)
        self.flush()
        self.closing = True
        self.stalled = NEVER  # from here on the deadline is for that
        if self.transport.can_write_eof():
            with suppress(OSError):  # asyncio's, of a client that is gone already
                self.transport.write_eof()
        else:
            self.transport.close()
        self._await_flush()

    def _await_flush(self) -> None:
        service = self.service
        left = self._unacknowledged = unacknowledged(self.transport)
        patient = left and not self.draining
        turns = service.stall_turns if patient else service.close_notify_turns
        self.deadline = service.clock.turn + turns

    # -- deadlines

    def expire(self) -> None:
        """Act on the deadline of an idle connection, or of a client that must read."""
        if self.stalled <= self.service.clock.turn:
            self._expire_reader()
        elif not self.closing and not self.transport.is_closing():
            self._retire()
        elif self._unacknowledged != unacknowledged(self.transport):
            self._await_flush()
        else:
            self.transport.abort()

    def _await_reader(self) -> None:
        self._unacknowledged = unacknowledged(self.transport)
        self.stalled = self.service.clock.turn + self._reader_turns

    def _expire_reader(self) -> None:
        if self._unacknowledged != unacknowledged(self.transport):
            self._await_reader()
        else:
            self.transport.abort()

    def overdue(self, stream: Stream) -> None:
        """Act on a stream's deadline."""
        overdue = stream.deadline <= self.service.clock.turn
        if overdue and stream.lingers:
            stream.wire.reset(NO_ERROR)  # section 8.1: it need not send the rest
            self._forget(stream)
            self.flush_soon()
        elif overdue:
            self._give_up(
                stream, Refusal(504, "the app took longer than request_timeout")
            )
        elif not (stream.complete or stream.room):
            self._refuse(stream, Refusal(408, "the body stalled for body_timeout"))
        elif stream.wire.pending_bytes != stream.unacknowledged:
            self.await_window(stream)
        else:
            stream.wire.reset(CANCEL)  # the client takes nothing of what it asked for
            self._lose(stream)
            self.flush_soon()
