"""How this worker's connections compare with its siblings'; read on every accept.

The rule: a comparison reads a few words of shared memory and makes no system call. The
list of siblings is kept for a moment; their connections are read every time.
"""

from __future__ import annotations

import math
import time
from typing import TypeAlias

from ..shared_memory.scoreboard import MICROSECONDS, Column, Scoreboard, Slot, State

SILENT = 3.0  # seconds without a heartbeat, which come once a second: it is hung

# At 1500 connections a second and worker, a slack of 1 costs them 98 µs of CPU each,
# of 4 64 µs, of 8 57 µs; without any evenness it is 37 µs.
CHURN = 250  # looks a second that add one connection of slack
MOST_SLACK = 8
TURNS = 4  # some 5 ms each, without a change, until a sibling is left out
KNOWN = 0.02  # seconds for which the list of siblings holds: a burst comes right after
# a start, when clients reconnect and workers begin to serve one after another.
BRIEF = 0.05  # seconds: refreshes closer than this say little about a rate

Sign: TypeAlias = tuple[int, int]  # connections, looks


class Siblings:
    """How this worker's connections compare; cheap enough for every connection.

    Reads the present state and connections of the siblings that served a moment ago:
    1.5 µs with 4 workers, 15 µs with 200.
    """

    def __init__(self, board: Scoreboard, slot: Slot) -> None:
        self._board = board
        self._slot = slot
        self._rows: dict[int, memoryview] = {}  # by worker id
        self._left_out: dict[int, Sign] = {}  # by worker id
        self._stuck: dict[int, Sign] = {}
        self._turns = 0
        self._slack = 1
        self._looks = 0
        self._refreshed_at = self._met_at = -math.inf

    def refresh(self, now: float) -> None:
        """List the siblings, and measure how fast connections come; once a beat.

        *now*: ``time.monotonic()``.
        """
        self._meet(now)
        rate = self._looks / max(now - self._refreshed_at, BRIEF)
        self._slack = 1 + min(int(rate / CHURN), MOST_SLACK)
        self._looks, self._refreshed_at = 0, now

    def _meet(self, now: float) -> None:
        """List the serving siblings.

        A sibling without a recent heartbeat is hung, stopped or dead, and left out: no
        connection must wait for it.
        """
        self._met_at = now
        heard = int((now - SILENT) * MICROSECONDS)
        self._rows = {
            worker_id: row
            for worker_id, row in enumerate(self._board.rows())
            if worker_id != self._slot.id
            and row[Column.STATE] == State.SERVING
            and row[Column.HEARTBEAT] >= heard
        }

    def lowest_connections(self) -> int | None:
        """Return the fewest that a serving sibling has; None without siblings."""
        # Once: looking an enum's member up takes longer than reading a word.
        state, connections = Column.STATE, Column.CONNECTIONS
        serving = State.SERVING.value
        rows = self._moving() if self._left_out else self._rows
        return min(
            [row[connections] for row in rows.values() if row[state] == serving],
            default=None,
        )

    def surplus(self, connections: int) -> int:
        """Publish *connections*; return how many of them exceed this worker's share.

        At 0 or below, it may take the next connection. The share is what the least
        loaded sibling has, a thirty-second more, and a slack: one where connections
        stay, so that a few spread evenly too; more where they come and go too fast for
        evenness to help, and leaving each to a sibling doubles its cost.
        """
        self._slot.connections = connections
        if (now := time.monotonic()) - self._met_at >= KNOWN:
            self._meet(now)
        if not self._rows:
            return 0
        self._looks += 1
        self._slot.words[Column.LOOKS] += 1
        lowest = self.lowest_connections()
        return (
            0 if lowest is None else connections - lowest - lowest // 32 - self._slack
        )

    def waited_in_vain(self) -> None:
        """Record that the least loaded siblings did not take a connection left to them.

        After some such turns they are left out until their row changes: they are
        stopped or busy. Not after the first, because a process may wait that long for a
        CPU. A look at the backlog changes the row too: a sibling that finds nothing
        there was only late.
        """
        lowest = self.lowest_connections()
        stuck = {
            worker_id: _sign(row)
            for worker_id, row in self._rows.items()
            if row[Column.CONNECTIONS] == lowest
        }
        self._turns = self._turns + 1 if stuck == self._stuck else 1
        self._stuck = stuck
        if self._turns >= TURNS:
            self._turns = 0
            self._left_out |= stuck

    def _moving(self) -> dict[int, memoryview]:
        """Readmit siblings whose rows changed; return those that are not left out."""
        self._left_out = {
            worker_id: sign
            for worker_id, sign in self._left_out.items()
            if worker_id in self._rows and _sign(self._rows[worker_id]) == sign
        }
        return {i: row for i, row in self._rows.items() if i not in self._left_out}


def _sign(row: memoryview) -> Sign:
    """Return the words that change when a worker accepts or tries to."""
    return row[Column.CONNECTIONS], row[Column.LOOKS]
