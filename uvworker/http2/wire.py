"""An HTTP/2 connection as far as its frames: bytes to events, and back.

The framing is zttp's, which also keeps HPACK and most floods within bounds. Rule: this
half knows no request but the `Stream`s whose windows it withholds.

This room imports zttp, so that only a worker that speaks HTTP/2 may import it.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Any

import zttp
from zttp import H2Settings

from ..http.connection import Connection
from ..http.head import Header
from . import frames
from .stream import HIGH_WATER, Stream

ENHANCE_YOUR_CALM = 11  # an error code: RFC 9113 section 7

# Bytes of bodies that may wait for the end of the turn of the loop. An app that never
# pauses would fill the memory up to the client's window, which may be 2 GB.
AT_ONCE = 65536

# Frames in a second that carry no request and no body. A client measures its round trip
# and cancels what it does not need; one that does nothing else is a flood, which costs
# an answer each (CVE-2019-9512, 9515, 9518) or an app's start each (CVE-2023-44487).
CHATTER = 1000


class Flood(Exception):  # noqa: N818 - a client's doing, and no error of ours
    """A client keeps the worker busy and asks for nothing."""


class Framing(asyncio.Protocol, ABC):
    """A connection as far as its frames.

    Args:
        peer: the connection as HTTP/1.1 would have served it. It knows the client,
            what is believed of it, and how a request is recorded.

    """

    def __init__(self, peer: Connection) -> None:
        self.peer = peer
        self.service = peer.service
        self.loop = peer.loop
        self.transport = peer.transport
        self.scheme = peer.scheme
        self.limits = peer.limits
        self.wire: Any = zttp.Connection(zttp.SERVER, protocol=zttp.HTTP2)
        self.streams: dict[int, Stream] = {}
        self.gate: asyncio.Event | None = None  # shut while the client is slow
        self.closing = False  # GOAWAY is sent, and nothing more is
        self._flushing = False
        self._queued = 0  # bytes of bodies, since the last flush
        self._chatter = self._turn = 0  # frames without use, and when they are counted

    # -- left to the class above

    @abstractmethod
    def take(self, event: Any) -> None:
        """Act on one event of zttp's."""

    @abstractmethod
    def blame(self, error: Exception, code: int | None) -> None:
        """End the connection for a fault that no single stream has."""

    @abstractmethod
    def look_for_room(self) -> None:
        """Let go on what waited for a window that has come."""

    # -- begin

    def adopt(
        self, method: bytes, target: bytes, headers: list[Header], settings: bytes
    ) -> bool:
        """Take an HTTP/1.1 request as the first stream; return False if it cannot be.

        It is answered when the client's preface is here. It might be answered at once,
        but curl 7.88 fails if 32 kB arrive together with the 101.

        Args:
            method: of the request.
            target: of the request.
            headers: without the fields of an HTTP/1.1 connection.
            settings: the value of `HTTP2-Settings`.

        """
        try:
            self.wire.initiate_upgrade_connection(method, target, headers, settings)
        except (ValueError, zttp.LocalProtocolError):
            return False
        return True

    def begin(self, data: bytes = b"") -> None:
        """Take the connection over; *data* has come already."""
        self.transport.set_protocol(self)
        self.wire.initiate_connection()
        ceilings: dict[int, int] = {
            H2Settings.MAX_CONCURRENT_STREAMS: self.limits.streams,
            H2Settings.MAX_HEADER_LIST_SIZE: self.limits.header_list,
            H2Settings.ENABLE_CONNECT_PROTOCOL: 0,  # no WebSocket over HTTP/2
        }
        preface = frames.lowered(self.wire.data_to_send(), ceilings)
        self.transport.write(preface)
        if data:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        """Take frames; a fault in them costs the connection."""
        if self.closing:
            return
        try:
            self.wire.receive_data(data)
            while (event := self.wire.next_event()) is not zttp.NEED_DATA:
                self.take(event)
                if self.closing:  # what is left is beyond our GOAWAY
                    return
        except Flood as flood:
            self.blame(flood, ENHANCE_YOUR_CALM)
        except zttp.RemoteProtocolError as error:
            self.blame(error, None)
        else:
            self.look_for_room()
            self.flush()

    def pause_writing(self) -> None:
        """Let `send()` wait, and hear no more: each PING would be one more answer."""
        self.gate = asyncio.Event()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Let `send()` go on."""
        if self.gate is not None:
            self.gate.set()
            self.gate = None
            if not self.transport.is_closing():
                self.transport.resume_reading()

    # -- frames out

    def flush(self) -> None:
        """Write what zttp has queued."""
        self._flushing = False
        self._queued = 0
        if not self.closing and (data := self.wire.data_to_send()):
            full = any(s.buffered > HIGH_WATER for s in self.streams.values())
            self.transport.write(self._withhold(data) if full else data)

    def flush_soon(self, size: int = 0) -> None:
        """Write what is queued, *size* bytes more: if it is much now, else soon."""
        self._queued += size
        if self._queued > AT_ONCE:
            self.flush()
        elif not self._flushing:
            self._flushing = True
            self.loop.call_soon(self.flush)

    def _withhold(self, data: bytes) -> bytes:
        """Take out the windows of streams whose apps do not read.

        zttp renews a window as soon as it has parsed what came. To read nothing at all
        meanwhile, as over HTTP/1.1, would hold up all other streams.
        """
        kept = []
        for frame in frames.frames(data):
            number, size = frames.window_of(frame)
            stream = self.streams.get(number)
            if stream is not None and stream.buffered > HIGH_WATER:
                stream.credit += size
            else:
                kept.append(frame)
        return b"".join(kept)

    def grant(self, stream: Stream) -> None:
        """Let the client send more of the body: its app has read."""
        credit, stream.credit = stream.credit, 0
        self.transport.write(frames.grant(stream.wire.stream_id, credit))

    # -- floods

    def count_chatter(self) -> None:
        """Count a frame that asks for nothing; raise `Flood` if it is one too many."""
        turn = self.service.clock.turn
        if turn != self._turn:
            self._turn, self._chatter = turn, 0
        self._chatter += 1
        if self._chatter > CHATTER:
            raise Flood("more control frames in a second than a client needs")
