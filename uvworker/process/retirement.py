"""When a worker leaves service: after SIGTERM, or at a limit of recycling.

Applies the rules of `handover` again and again until they say so. Both ways end in one
*drain*, which is the server's; until then the worker serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..shared_memory.history import Exit
from ..shared_memory.scoreboard import Scoreboard, Slot, State, WorkerView
from .handover import HandOver, Verdict, may_recycle
from .recycling import Recycling

DECIDE_PERIOD = 0.1  # seconds between two looks at the siblings that take over
MOST_YIELDS = 10  # looks, a second in all
SETTLE = 0.05  # seconds from wanting to be recycled to deciding whose turn it is

# Seconds for which the youngest accepts longer when all workers stop. The others wake
# at once and may wait for a CPU between emptying the backlog and closing the listener.
# A connection of that moment is lost only if no other process holds the listener.
YOUNGEST_EXTRA = 0.2


class Retirement:
    """One worker's retirement; made in the worker, used on its loop.

    *drain*: called once, with whether no other worker accepts from now on, and with the
    seconds for which this one should go on accepting all the same.
    *report*: called with the limit that is reached while the worker waits for its turn.
    *log*: gunicorn's logger.
    """

    def __init__(
        self,
        board: Scoreboard,
        slot: Slot,
        recycling: Recycling,
        *,
        drain: Callable[[bool, float], object],
        report: Callable[[str], object],
        log: Any,
    ) -> None:
        self._board = board
        self._slot = slot
        self._recycling = recycling
        self._drain = drain
        self._report = report
        self._log = log
        self._handover = HandOver(slot.age)
        self._deciding = False
        self._yields = 0

    def terminate(self) -> None:
        """Handle SIGTERM: drain once the workers that take over serve."""
        self._slot.terminating = True
        self._slot.exit = Exit.TERM
        if self._slot.state is State.BOOTING:
            self.leave()
        elif self._slot.state is State.SERVING and not self._deciding:
            self._deciding = True
            # Not yet: a stop must have reached the siblings too. If two workers each
            # left the backlog to the other, the slower would reset the clients in it.
            self._decide_later()

    def _decide(self) -> None:
        if self._slot.state is not State.SERVING:
            return  # recycled meanwhile
        siblings = self._others()
        verdict = self._handover.verdict(siblings)
        if verdict is Verdict.DRAIN and not self._must_yield(siblings):
            self.leave()
        elif verdict is Verdict.TAKE_BACK:
            self._log.warning(
                "A worker that was to take over died; worker %d serves on instead.",
                self._slot.id,
            )
            self._slot.terminating = self._deciding = False
            self._slot.exit = Exit.KILLED
            self._slot.stayed = max(worker.age for worker in siblings)
            self._yields = 0
        else:
            self._decide_later()

    def _must_yield(self, siblings: list[WorkerView]) -> bool:
        """Whether a sibling that never served is about to close the listeners.

        It does not accept. If it were the last to close them, the clients in the
        backlog would be reset. It has `MOST_YIELDS` looks for that.
        """
        self._yields += 1
        return self._yields <= MOST_YIELDS and any(
            w.alive and w.terminating and w.state is State.BOOTING for w in siblings
        )

    def _decide_later(self) -> None:
        asyncio.get_running_loop().call_later(DECIDE_PERIOD, self._decide)

    def check(self) -> None:
        """Drain if a limit is reached and it is this worker's turn; once a beat."""
        reason = self._recycling.reached()
        if reason is None or self._slot.state is not State.SERVING:
            return
        others = self._others()
        if not self._slot.due and any(w.alive for w in others):
            # Siblings that reach a limit at the same time must see each other's flag
            # before they decide.
            self._slot.due = True
            asyncio.get_running_loop().call_later(SETTLE, self.check)
            return
        self._slot.due = True
        self._report(f"waits for its turn to be recycled: {reason.text}")
        me = next(w for w in self._board.workers() if w.id == self._slot.id)
        if may_recycle(me, others, hard=reason.hard):
            self._slot.state = State.DRAINING  # now, for siblings that are due too
            self._slot.exit = Exit[reason.limit.upper()]
            self._log.info("Recycling worker %d: %s.", self._slot.id, reason.text)
            self.leave()

    def leave(self) -> None:
        """Drain now."""
        self._slot.retiring = True
        others = [w for w in self._others() if w.alive and w.state is State.SERVING]
        nobody_else = all(worker.terminating for worker in others)
        youngest = all(worker.age < self._slot.age for worker in others)
        self._drain(
            nobody_else, YOUNGEST_EXTRA if nobody_else and others and youngest else 0.0
        )

    def _others(self) -> list[WorkerView]:
        return self._board.siblings(self._slot)
