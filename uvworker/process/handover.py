"""Who may go, and when: decisions over the scoreboard, with no process in them.

What the arbiter does (gunicorn 23 to 27) is all that these rules stand on:

- It wants ``num_workers``. SIGHUP makes it fork that many, then send SIGTERM to the
  oldest until only as many are left untold; TTOU is the same without the fork. It
  repeats both on every turn of its loop, about once a second, until the surplus is
  gone; gunicorn 27 first waits ``graceful_timeout`` after a SIGHUP.
- A stop sends SIGTERM to all workers, once.
- It replaces a worker only when fewer than ``num_workers`` live, so new workers that
  die beside old ones are not replaced: the old ones are no longer surplus then, and
  nobody tells them so.

The rule, then: the workers not told are the ones that the arbiter keeps. A worker that
is told goes on accepting while one of the kept does not serve that no younger told
worker covers for: the oldest leaves first, one for each that serves. If a kept worker
dies without having been told, the youngest told worker takes its place: it takes its
SIGTERM back, as the arbiter has done by counting. If the kept are told, it is a stop
(or a newer SIGHUP, which keeps others), and they are not waited for.

So TTOU, a stop, and a SIGTERM by hand drain at the first look, because nobody boots; a
reload to more workers or to fewer keeps as many accepting as there will be.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from .scoreboard import State, WorkerView

LONGEST_PAUSE = 30.0  # seconds between attempts to boot, once they have kept failing
RESPAWN = 2.0  # seconds in which the arbiter has surely replaced a worker that died
TOGETHER = 4  # workers for each that may be recycled at the same time


class Verdict(Enum):
    """What a worker that got SIGTERM does next."""

    DRAIN = auto()  # stop accepting, finish, leave; not to be taken back
    GO_ON = auto()  # accept as before, and ask again soon
    TAKE_BACK = auto()  # be as if there had been no SIGTERM: clear ``told``


class HandOver:
    """One worker's view of the change of workers that its SIGTERM is part of.

    *age*: gunicorn's ``worker.age`` of this worker.
    """

    def __init__(self, age: int) -> None:
        self._age = age
        self._kept: set[int] = set()  # ages of the workers that the arbiter keeps

    def verdict(self, siblings: Sequence[WorkerView]) -> Verdict:
        """Weigh who came, who died and who was told.

        On every SIGTERM, in whatever state, set the slot's ``told``. If serving, ask
        when a stop has had time to reach the siblings too, and then several times a
        second until the verdict is ``DRAIN`` or ``TAKE_BACK``.

        *siblings*: `Scoreboard.siblings`, the dead among them, whose rows say whether
        they were told before they died.
        """
        vacant = self._vacancies(siblings)
        awaited = sum(_is_kept(w) and w.state is not State.SERVING for w in siblings)
        covering = sum(
            w.alive and w.told and w.state is State.SERVING and w.age > self._age
            for w in siblings
        )
        if covering < vacant:
            self._kept.clear()
            return Verdict.TAKE_BACK
        return Verdict.GO_ON if covering < vacant + awaited else Verdict.DRAIN

    def _vacancies(self, siblings: Sequence[WorkerView]) -> int:
        """Count the kept that died without having been told, until others are kept.

        The arbiter tells the oldest surplus again and again. That is no news while a
        place is vacant: its taker may not have noticed, and would be missed.
        """
        kept = {w.age for w in siblings if _is_kept(w)}
        self._kept -= {w.age for w in siblings if w.told}
        vacant = len(self._kept) - len(kept)
        if vacant <= 0:
            self._kept = kept
        return max(0, vacant)


def pause_after_failed_boot(
    me: WorkerView, siblings: Sequence[WorkerView]
) -> float | None:
    """How long a worker that cannot boot waits before it exits, in seconds.

    None: no sibling serves. The worker exits with the code that makes the arbiter halt
    the service, which was not there anyway. Otherwise it exits, after the pause, with
    one that makes the arbiter try again: 1, 2, 4 ... 30 s for ``me.failures`` in a row.
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

    *me*: ``due`` must have been set for a beat, so that siblings which decide at the
    same time see each other's wish; then the oldest goes first. Nobody starves: its
    replacement is the youngest.
    *hard*: the worker must go now, whatever that costs.

    One of up to four workers at a time, a quarter of more. A worker is away from its
    drain until its replacement serves, the moment included in which it has none yet.
    """
    if hard:
        return True
    if me.told or not me.due:
        return False
    kept = [w for w in siblings if not w.told and (w.alive or w.silence < RESPAWN)]
    away = sum(not w.alive or w.state is not State.SERVING for w in kept)
    ahead = sum(
        w.alive and w.state is State.SERVING and w.due and w.age < me.age for w in kept
    )
    return away + ahead < max(1, (len(kept) + 1) // TOGETHER)


def _is_kept(worker: WorkerView) -> bool:
    """Whether the arbiter counts on it; one that leaves by itself is as good as dead.

    It no longer hears a SIGTERM, so that its death says nothing of the arbiter's mind.
    """
    return worker.alive and not worker.told and worker.state is not State.LEAVING
