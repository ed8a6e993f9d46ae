"""When a worker leaves: what two of them know of each other as both are told."""

from __future__ import annotations

import asyncio
import logging

from uvworker.process.recycling import Recycling
from uvworker.process.retirement import Retirement
from uvworker.process.scoreboard import Scoreboard, Slot

from .test_scoreboard import end, spawn


def retirement(board: Scoreboard, slot: Slot, drained: list[bool]) -> Retirement:
    log = logging.getLogger(__name__)
    return Retirement(board, slot, Recycling(), drain=drained.append, log=log)


def test_workers_told_together_do_not_leave_the_backlog_to_each_other() -> None:
    drained: list[bool] = []  # with whether nobody else accepts

    async def stop(retirements: list[Retirement]) -> None:
        for each in retirements:
            each.told()
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
    assert drained == [True, True]
