"""A worker's way out of service: told by SIGTERM, or worn out by its limits.

Here the rules of `handover` meet the clock. Both ways end in one *drain*, which is the
server's; until then the worker serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .handover import HandOver, Verdict, may_recycle
from .recycling import Recycling
from .scoreboard import Scoreboard, Slot, State, WorkerView

WEIGH = 0.1  # seconds between two looks at the siblings that shall take over
GIVE_WAY = 10  # looks, a second in all
SETTLE = 0.05  # seconds from wanting to be recycled to deciding whose turn it is

# Seconds for which the youngest accepts longer when all stop. The others, all woken at
# once, may wait for a processor between emptying the backlog and closing it; what comes
# in that moment is lost only if theirs was the last descriptor of the listener.
LAST = 0.2


class Retirement:
    """One worker's retirement; constructed in the worker, told on its loop.

    *drain*: called once, with whether nobody else accepts from now on, and with the
    seconds for which it should go on accepting all the same.
    *log*: gunicorn's logger.
    """

    def __init__(
        self,
        board: Scoreboard,
        slot: Slot,
        recycling: Recycling,
        *,
        drain: Callable[[bool, float], object],
        log: Any,
    ) -> None:
        self._board = board
        self._slot = slot
        self._recycling = recycling
        self._drain = drain
        self._log = log
        self._handover = HandOver(slot.age)
        self._weighing = False
        self._given_way = 0

    def told(self) -> None:
        """Take a SIGTERM: drain, but not before those who take over serve."""
        self._slot.told = True
        if self._slot.state is State.BOOTING:
            self.leave()
        elif self._slot.state is State.SERVING and not self._weighing:
            self._weighing = True
            # Not yet: a stop must have reached the siblings too. Of two that each left
            # the backlog to the other, the slower would close it with clients inside.
            self._weigh_later()

    def _weigh(self) -> None:
        if self._slot.state is not State.SERVING:
            return  # recycled meanwhile
        siblings = self._others()
        verdict = self._handover.verdict(siblings)
        if verdict is Verdict.DRAIN and not self._before_me(siblings):
            self.leave()
        elif verdict is Verdict.TAKE_BACK:
            self._log.warning(
                "A worker that was to take over is gone; serving on in its place."
            )
            self._slot.told = self._weighing = False
            self._given_way = 0
        else:
            self._weigh_later()

    def _before_me(self, siblings: list[WorkerView]) -> bool:
        """Whether a sibling that never served is about to close the listeners.

        It does not accept, so it must not be the last to hold them: whoever is then in
        the backlog would be reset. It has `GIVE_WAY` looks for that.
        """
        self._given_way += 1
        return self._given_way <= GIVE_WAY and any(
            w.alive and w.told and w.state is State.BOOTING for w in siblings
        )

    def _weigh_later(self) -> None:
        asyncio.get_running_loop().call_later(WEIGH, self._weigh)

    def check(self) -> None:
        """Drain if a limit is reached and it is this worker's turn; once a beat."""
        reason = self._recycling.reached()
        if reason is None or self._slot.state is not State.SERVING:
            return
        others = self._others()
        if not self._slot.due and any(w.alive for w in others):
            # Siblings that reach a limit in the same instant must see each other's
            # wish before they decide.
            self._slot.due = True
            asyncio.get_running_loop().call_later(SETTLE, self.check)
            return
        self._slot.due = True
        me = next(w for w in self._board.workers() if w.id == self._slot.id)
        if may_recycle(me, others, hard=reason.hard):
            self._slot.state = State.DRAINING  # at once, for siblings that are due too
            self._log.info("Recycling worker %d: %s.", self._slot.id, reason.text)
            self.leave()

    def leave(self) -> None:
        """Drain now."""
        others = [w for w in self._others() if w.alive and w.state is State.SERVING]
        nobody_else = all(worker.told for worker in others)
        told_last = all(worker.age < self._slot.age for worker in others)
        self._drain(nobody_else, LAST if nobody_else and others and told_last else 0.0)

    def _others(self) -> list[WorkerView]:
        return self._board.siblings(self._slot)
