"""Which worker may leave, and when: pure decisions from the scoreboard.

They rest on what the arbiter does (gunicorn 23 to 27):

- It wants ``num_workers``. SIGHUP makes it fork that many, then send SIGTERM to the
  oldest until only as many are left without one; TTOU is the same without the fork. It
  repeats both on every turn of its loop, about once a second, until the surplus is
  gone; gunicorn 27 first waits ``graceful_timeout`` after a SIGHUP.
- A stop sends SIGTERM to all workers, once.
- It replaces a worker only when fewer than ``num_workers`` live, so new workers that
  die beside old ones are not replaced: the old ones are no longer surplus then, but
  get no signal that says so.

The rule: the workers without a SIGTERM are the ones that the arbiter keeps. A
terminating worker goes on accepting as long as more kept workers are not serving yet
than younger terminating workers cover for: the oldest leaves first, one for each that
serves. If a kept worker dies without a SIGTERM, the youngest terminating worker takes
its place and revokes its own SIGTERM, because the arbiter counts it again. If the kept
workers get a SIGTERM, it is a stop (or a newer SIGHUP, which keeps others), and nothing
waits for them.

So TTOU, a stop, and a SIGTERM by hand drain at the first look, because no worker boots.
A reload to more or fewer workers keeps as many accepting as there will be.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from ..shared_memory.scoreboard import State, WorkerView

LONGEST_PAUSE = 30.0  # seconds between attempts to boot, once they have kept failing
RESPAWN = 2.0  # seconds in which the arbiter has surely replaced a worker that died
TOGETHER = 4  # workers for each that may be recycled at the same time


class Verdict(Enum):
    """What a worker that got SIGTERM does next."""

    DRAIN = auto()  # stop accepting, finish, leave; final
    GO_ON = auto()  # accept as before, and ask again soon
    TAKE_BACK = auto()  # revoke the SIGTERM: clear ``terminating``


class HandOver:
    """One worker's view of the change of workers that its SIGTERM is part of.

    *age*: gunicorn's ``worker.age`` of this worker.
    """

    def __init__(self, age: int) -> None:
        self._age = age
        self._kept: set[int] = set()  # ages of the workers that the arbiter keeps

    def verdict(self, siblings: Sequence[WorkerView]) -> Verdict:
        """Decide by which workers have come, have died or have got SIGTERM.

        On every SIGTERM, in whatever state, set the slot's ``terminating``. If serving,
        ask when a stop has had time to reach the siblings too, and then several times a
        second until the verdict is ``DRAIN`` or ``TAKE_BACK``.

        *siblings*: `Scoreboard.siblings`. Dead ones count: their rows say whether they
        got SIGTERM before they died.
        """
        vacant = self._vacancies(siblings)
        awaited = sum(_is_kept(w) and w.state is not State.SERVING for w in siblings)
        covering = sum(
            w.alive and w.terminating and w.state is State.SERVING and w.age > self._age
            for w in siblings
        )
        if covering < vacant:
            self._kept.clear()
            return Verdict.TAKE_BACK
        return Verdict.GO_ON if covering < vacant + awaited else Verdict.DRAIN

    def _vacancies(self, siblings: Sequence[WorkerView]) -> int:
        """Count the kept workers that died without a SIGTERM, until others are kept.

        The arbiter signals the oldest surplus worker again and again. While a place is
        vacant that changes nothing: the worker that takes it may not have looked yet.
        """
        kept = {w.age for w in siblings if _is_kept(w)}
        self._kept -= {w.age for w in siblings if w.terminating}
        vacant = len(self._kept) - len(kept)
        if vacant <= 0:
            self._kept = kept
        return max(0, vacant)


def pause_after_failed_boot(
    me: WorkerView, siblings: Sequence[WorkerView]
) -> float | None:
    """Return the seconds that a worker which cannot boot waits before it exits.

    None if no sibling serves: the worker exits with the code that halts the service,
    which did not run anyway. Otherwise it waits 1, 2, 4 ... 30 s for ``me.failures`` in
    a row, and exits with a code that makes the arbiter try again.
    """
    if not any(w.alive and w.state is State.SERVING for w in siblings):
        return None
    return pause_between_boots(me.failures)


def pause_between_boots(failures: int) -> float:
    """Return the seconds after the last of so many failed boots in a row."""
    return min(2.0 ** (failures - 1), LONGEST_PAUSE)


def may_recycle(
    me: WorkerView, siblings: Sequence[WorkerView], *, hard: bool = False
) -> bool:
    """Whether it is this worker's turn to be recycled.

    *me*: ``due`` must have been set for a moment, so that siblings which decide at the
    same time see each other; then the oldest goes first. No worker starves: its
    replacement is the youngest.
    *hard*: the worker must go now, whatever that costs.

    One of up to four workers at a time, a quarter of more. A worker counts as away from
    the start of its drain until its replacement serves.
    """
    if hard:
        return True
    if me.terminating or not me.due:
        return False
    kept = [
        w for w in siblings if not w.terminating and (w.alive or w.silence < RESPAWN)
    ]
    away = sum(not w.alive or w.state is not State.SERVING for w in kept)
    ahead = sum(
        w.alive and w.state is State.SERVING and w.due and w.age < me.age for w in kept
    )
    return away + ahead < max(1, (len(kept) + 1) // TOGETHER)


def _is_kept(worker: WorkerView) -> bool:
    """Whether the arbiter keeps this worker; one that leaves by itself does not count.

    It ignores SIGTERM, so its death says nothing about the arbiter's choice.
    """
    return worker.alive and not worker.terminating and worker.state is not State.LEAVING
