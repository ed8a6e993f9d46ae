"""What all WebSockets of one worker share: settings and clock."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

# Seconds for the client's answer to a close frame: uvicorn's and websockets' number.
CLOSE_TIMEOUT = 10.0

# Seconds. If the connection were closed at once, a client that still sends would get a
# reset instead of the reason.
LINGER = 2.0

# Seconds without one byte taken from our buffer, after which a client that does not
# read is cut.
WRITE_STALL = 30.0


@dataclass(frozen=True, slots=True)
class Settings:
    """A worker's settings for its WebSockets; the defaults are uvicorn's.

    Args:
        max_size: bytes of a message, inflated; a longer one closes with 1009.
        max_queue: messages that wait for the app before the client has to.
        ping_interval: seconds between pings; None: none are sent.
        ping_timeout: seconds without a sign of life after a ping, then the
            connection is closed with 1011. None: no limit.
        deflate: take the compression that a client offers.

    """

    max_size: int = 16 * 1024 * 1024
    max_queue: int = 32
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0
    deflate: bool = True


class Watched(Protocol):
    """What has deadlines, in turns of the clock."""

    deadline: int
    stalled: int

    def expire(self) -> None:
        """Act on the deadline that has passed, and move it."""


class Clock(Protocol):
    """What looks at deadlines once a turn, which is about a second."""

    turn: int

    def turns(self, seconds: float | None) -> int:
        """Return how many turns are at least *seconds*; None is never."""

    def watch(self, connection: Watched) -> None:
        """Call `expire` when a deadline has passed."""

    def forget(self, connection: Watched) -> None:
        """Look no more after it."""


class Service:
    """What the WebSockets of one worker share.

    Args:
        settings: the worker's.
        loop: the worker's.
        clock: counts turns, and calls `expire` of what it watches.

    """

    def __init__(
        self, settings: Settings, loop: asyncio.AbstractEventLoop, clock: Clock
    ) -> None:
        self.loop = loop
        self.clock = clock
        self.max_size = settings.max_size
        self.max_queue = settings.max_queue
        self.deflate = settings.deflate
        self.ping_turns = clock.turns(settings.ping_interval or None)
        self.pong_turns = clock.turns(settings.ping_timeout or None)
        self.awaits_pongs = bool(settings.ping_timeout)
        self.close_turns = clock.turns(CLOSE_TIMEOUT)
        self.linger_turns = clock.turns(LINGER)
        self.stall_turns = clock.turns(WRITE_STALL)
