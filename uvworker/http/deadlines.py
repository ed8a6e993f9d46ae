"""Deadlines of connections: a clock looks at all of them once a second.

Rule: a connection owns its deadline, a plain number that it may change as often as it
needs; nothing is allocated or cancelled then. A timer for each request would cost more
than parsing the request.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable, Iterable
from typing import Protocol

PERIOD = 1.0  # seconds; a deadline is never early, and at most one period late
NEVER = sys.maxsize  # turns


class Watched(Protocol):
    """A connection as the clock sees it: two deadlines, in turns of the clock."""

    deadline: int
    stalled: int

    def expire(self) -> None:
        """Act on the deadline that has passed, and move it."""


class Clock:
    """The clock of one worker's connections; it runs while there are any.

    It counts turns instead of reading the time: a loop that was blocked for ten seconds
    did not read from its clients for ten seconds either.

    *each_turn*: called with the connections, before their deadlines are looked at.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        each_turn: Callable[[Iterable[Watched]], None],
    ) -> None:
        self.turn = 0
        self.connections: set[Watched] = set()
        self._loop = loop
        self._each_turn = each_turn
        self._period = PERIOD
        self._timer: asyncio.TimerHandle | None = None

    def turns(self, seconds: float | None) -> int:
        """Return how many turns are at least *seconds*; `NEVER` for None."""
        if seconds is None:
            return NEVER
        return 1 + math.ceil(seconds / self._period)

    def watch(self, connection: Watched) -> None:
        """Call `expire` of *connection* when a deadline has passed."""
        self.connections.add(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(self._period, self._tick)

    def forget(self, connection: Watched) -> None:
        """Stop watching *connection*."""
        self.connections.discard(connection)

    def _tick(self) -> None:
        self._timer = None
        self.turn = turn = self.turn + 1
        if not self.connections:
            return
        self._timer = self._loop.call_later(self._period, self._tick)
        # After a blocked loop, requests may wait in the sockets: libuv runs its timers
        # before it reads. One turn of the loop later they have been read.
        self._loop.call_later(0, self._expire, turn)

    def _expire(self, turn: int) -> None:
        self._each_turn(self.connections)
        for connection in [
            connection
            for connection in self.connections
            if connection.deadline <= turn or connection.stalled <= turn
        ]:
            connection.expire()
