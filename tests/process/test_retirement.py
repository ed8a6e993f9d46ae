"""When a worker leaves: two workers that get SIGTERM at the same time."""

from __future__ import annotations

import asyncio
import logging

from uvworker.process.recycling import Recycling
from uvworker.process.retirement import YOUNGEST_EXTRA, Retirement
from uvworker.shared_memory.scoreboard import Scoreboard, Slot

from ..shared_memory.test_scoreboard import end, spawn

Drained = list[tuple[bool, float]]  # whether nobody else accepts, seconds to go on


def retirement(board: Scoreboard, slot: Slot, drained: Drained) -> Retirement:
    def drain(nobody_else: bool, wait: float) -> None:
        drained.append((nobody_else, wait))

    log = logging.getLogger(__name__)
    return Retirement(board, slot, Recycling(), drain=drain, report=print, log=log)


def test_workers_told_together_do_not_leave_the_backlog_to_each_other() -> None:
    drained: Drained = []

    async def stop(retirements: list[Retirement]) -> None:
        for each in retirements:
            each.terminate()
        while len(drained) < len(retirements):
            await asyncio.sleep(0.01)

    board = Scoreboard()
    pids = []
    try:
        retirements = []
        for age in (1, 2):
            slot = board.claim(age)
            pids.append(spawn(slot))
            slot.serve()
            retirements.append(retirement(board, slot, drained))
        asyncio.run(asyncio.wait_for(stop(retirements), 20))
    finally:
        for pid in pids:
            end(pid)
    assert drained == [(True, 0.0), (True, YOUNGEST_EXTRA)]
