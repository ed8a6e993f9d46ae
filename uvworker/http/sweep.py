"""Deadlines of connections, kept by one look over all of them once a second.

Rule: a connection owns its deadline, a plain number that it may move as often as it
likes; nothing here is allocated or cancelled when it does. A timer per request would
cost more than the request's parsing.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

PERIOD = 1.0  # seconds; a deadline is never early, and late by one period at most
NEVER = sys.maxsize  # turns


class Watched(Protocol):
    """A connection as the sweep sees it: two deadlines, in turns of the sweep."""

    deadline: int
    stalled: int

    def expire(self) -> None:
        """Act on the deadline that has passed, and move it."""


class Sweep:
    """The clock of one worker's connections; it runs while there are any.

    Time is counted in `turn`s and not read from a clock: a loop that was blocked for
    ten seconds has not let its clients speak for ten seconds either.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.turn = 0
        self.connections: set[Watched] = set()
        self._loop = loop
        self._period = PERIOD
        self._timer: asyncio.TimerHandle | None = None

    def turns(self, seconds: float | None) -> int:
        """Return how many turns from now are at least *seconds*; None is never."""
        if seconds is None:
            return NEVER
        return 1 + math.ceil(seconds / self._period)

    def watch(self, connection: Watched) -> None:
        """Look after *connection* until it is forgotten."""
        self.connections.add(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(self._period, self._look)

    def forget(self, connection: Watched) -> None:
        """Look no more after *connection*."""
        self.connections.discard(connection)

    def _look(self) -> None:
        self._timer = None
        self.turn = turn = self.turn + 1
        if not self.connections:
            return
        self._timer = self._loop.call_later(self._period, self._look)
        # After a blocked loop, requests may be waiting in the sockets: libuv runs its
        # timers before it reads. One more turn of the loop, and they are here.
        self._loop.call_later(0, self._expire, turn)

    def _expire(self, turn: int) -> None:
        for connection in [
            connection
            for connection in self.connections
            if connection.deadline <= turn or connection.stalled <= turn
        ]:
            connection.expire()
