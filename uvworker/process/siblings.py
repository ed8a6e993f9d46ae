"""How this worker's load compares with its siblings'; asked on every accept.

The rule: what is asked for every connection reads a few words of shared memory and
asks the kernel nothing. Who the siblings are is known for a moment, how many
connections they have is looked up every time.
"""

from __future__ import annotations

import math
import time
from typing import TypeAlias

from .scoreboard import MICROSECONDS, Scoreboard, Slot, State, Word

SILENT = 3.0  # seconds without a life sign, of one a second, until a worker is hung

# At 1500 connections a second and worker, a slack of 1 costs them 98 µs of CPU each,
# of 4 64 µs, of 8 57 µs; without any evenness it is 37 µs.
CHURN = 250  # looks a second that add one connection of slack
MOST_SLACK = 8
TURNS = 4  # some 5 ms each, without a change, until a sibling is left out
KNOWN = 0.02  # seconds until a worker looks again who its siblings are: a burst comes
# right after a start, when clients come back, and each worker has just met the others.
BRIEF = 0.05  # seconds: refreshes closer than this say little about a rate

Sign: TypeAlias = tuple[int, int]  # connections, looks


class Siblings:
    """How this worker's connections compare; cheap enough for every connection.

    Looks at the siblings that served a moment ago, and at their state and connections
    as they are now: 1.5 µs with 4 workers, 15 µs with 200.
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
        """Find the siblings, and weigh how fast connections come; once a beat.

        *now*: ``time.monotonic()``.
        """
        self._meet(now)
        rate = self._looks / max(now - self._refreshed_at, BRIEF)
        self._slack = 1 + min(int(rate / CHURN), MOST_SLACK)
        self._looks, self._refreshed_at = 0, now

    def _meet(self, now: float) -> None:
        """Find the serving siblings.

        A sibling without a recent life sign, be it hung, stopped or dead, is left out:
        nobody must wait for it.
        """
        self._met_at = now
        heard = int((now - SILENT) * MICROSECONDS)
        self._rows = {
            worker_id: row
            for worker_id, row in enumerate(self._board.rows())
            if worker_id != self._slot.id
            and row[Word.STATE] == State.SERVING
            and row[Word.HEARTBEAT] >= heard
        }

    def lowest_connections(self) -> int | None:
        """Return the fewest that a serving sibling has; None without siblings."""
        # Looked up once: an enum's members take longer to find than a word to read.
        state, serving, connections = Word.STATE, State.SERVING.value, Word.CONNECTIONS
        rows = self._moving() if self._left_out else self._rows
        return min(
            [row[connections] for row in rows.values() if row[state] == serving],
            default=None,
        )

    def surplus(self, connections: int) -> int:
        """How many connections this worker has beyond its share; publishes them.

        Up to 0, the next connection may be taken. The share is what the least loaded
        sibling has, a thirty-second more, and a slack: of one where connections stay,
        so that a few spread evenly too; of more where they come and go faster than
        evenness could help, and leaving each to a sibling doubles what it costs.
        """
        self._slot.connections = connections
        if (now := time.monotonic()) - self._met_at >= KNOWN:
            self._meet(now)
        if not self._rows:
            return 0
        self._looks += 1
        self._slot.words[Word.LOOKS] += 1
        lowest = self.lowest_connections()
        return (
            0 if lowest is None else connections - lowest - lowest // 32 - self._slack
        )

    def waited_in_vain(self) -> None:
        """Hear that the least loaded did not take what was left to them.

        After some such turns without a sign they are left out until they give one: they
        are stopped, or busy with something else. Not at the first, as a process that
        waits for a processor stands still for that long. A look is a sign too: who
        looks and finds nothing left was late, and must not be left out for it.
        """
        lowest = self.lowest_connections()
        stuck = {
            worker_id: _sign(row)
            for worker_id, row in self._rows.items()
            if row[Word.CONNECTIONS] == lowest
        }
        self._turns = self._turns + 1 if stuck == self._stuck else 1
        self._stuck = stuck
        if self._turns >= TURNS:
            self._turns = 0
            self._left_out |= stuck

    def _moving(self) -> dict[int, memoryview]:
        """Take back whoever gave a sign; return those that are not left out."""
        self._left_out = {
            worker_id: sign
            for worker_id, sign in self._left_out.items()
            if worker_id in self._rows and _sign(self._rows[worker_id]) == sign
        }
        return {i: row for i, row in self._rows.items() if i not in self._left_out}


def _sign(row: memoryview) -> Sign:
    """Return what changes whenever a worker takes a connection or looks for one."""
    return row[Word.CONNECTIONS], row[Word.LOOKS]
