"""The generations of workers: the first at the start, another with each reload (HUP).

The arbiter forgets a reload once it has forked the new workers. This room keeps in
shared memory which workers are new, and judges by the scoreboard what became of them.
The rule: only the arbiter writes here; each process that asks computes the outcome.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

from .scoreboard import State, WorkerView


class Outcome(Enum):
    """What became of a generation."""

    BOOTING = "booting"  # it is not decided yet
    SERVING = "serving"
    FAILED = "failed"  # a reload only: workers from before it serve on


KEPT = 5  # reloads before the newest one, with their outcome


class _Word(IntEnum):
    NUMBER = 0
    FIRST_AGE = 1
    WANTED = 2
    BEGAN = 3
    GOOD = 4  # reloads before the present one
    FAILED = 5


@dataclass(frozen=True, slots=True)
class Generation:
    """The newest generation.

    Args:
        number: 1 for the first.
        first_age: gunicorn's ``worker.age`` of its oldest worker.
        wanted: how many workers it is to have.
        began: whole seconds since the epoch.
        good: reloads before it that succeeded.
        failed: reloads before it that failed.

    """

    number: int
    first_age: int
    wanted: int
    began: int
    good: int = 0
    failed: int = 0

    def outcome(self, workers: Sequence[WorkerView]) -> Outcome:
        """Judge by all rows of the scoreboard, those of dead workers included.

        A worker that got SIGTERM is not waited for. The first generation cannot fail:
        gunicorn then ends the service, or replaces the worker. It serves without a
        worker that cannot boot while others serve, and is tried again.
        """
        kept = [w for w in workers if not w.terminating]
        new = [w for w in kept if w.age >= self.first_age]
        newest = max((w.age for w in workers), default=0)
        if newest < self.first_age + self.wanted - 1 or any(map(_boots, new)):
            return Outcome.BOOTING
        lost = any(not w.alive and w.boot_seconds is None for w in new)
        if self.number > 1:
            failing = any(w.state is State.FAILED for w in new)
            old = any(_serves(w) for w in kept if w.age < self.first_age)
            if lost or failing or old:
                return Outcome.FAILED
        elif lost:
            return Outcome.BOOTING
        return Outcome.SERVING if any(map(_serves, new)) else Outcome.BOOTING

    def ended(self, workers: Sequence[WorkerView], stayed: int) -> Outcome:
        """Judge a reload for the counts: what is decided here stays so.

        It has failed if an old worker revoked its SIGTERM, and succeeded once no old
        worker is left. *stayed*: `Scoreboard.stayed`.
        """
        if self.number <= 1:
            return Outcome.BOOTING
        old = [w for w in workers if w.age < self.first_age]
        if max([stayed, *(w.stayed for w in old)]) >= self.first_age:
            return Outcome.FAILED
        left = any(w.alive for w in old)
        return Outcome.BOOTING if left else Outcome.SERVING


OUTCOMES = tuple(Outcome)


class Generations:
    """Counts the generations; made in the arbiter before the first fork."""

    def __init__(self) -> None:
        words = memoryview(mmap.mmap(-1, (len(_Word) + 2 * KEPT) * 8)).cast("q")
        self._words = words[: len(_Word)]
        self._began = words[len(_Word) : -KEPT]  # of the reload with this number
        self._outcomes = words[-KEPT:]

    def begin(
        self, age: int, wanted: int, workers: Sequence[WorkerView], stayed: int = 0
    ) -> None:
        """Begin a generation; in the arbiter, before its first fork.

        *age*: of its first worker. *wanted*: how many it is to have.
        *workers*, *stayed*: of the scoreboard, to judge the generation before.
        """
        words = self._words
        before = self.current
        outcome = before.ended(workers, stayed)
        self._began[before.number % KEPT] = before.began
        self._outcomes[before.number % KEPT] = OUTCOMES.index(outcome)
        words[_Word.GOOD] += outcome is Outcome.SERVING
        words[_Word.FAILED] += outcome is Outcome.FAILED
        words[_Word.FIRST_AGE], words[_Word.WANTED] = age, wanted
        words[_Word.BEGAN] = int(time.time())
        words[_Word.NUMBER] += 1

    @property
    def current(self) -> Generation:
        """Return the newest generation; its number is 0 before the first fork."""
        return Generation(*self._words.tolist())

    @property
    def reloads(self) -> list[tuple[int, Outcome]]:
        """Return when each of the last reloads but the newest began, and its outcome.

        One that is still booting was overtaken by the next. The oldest is the first.
        """
        newest = self.current.number
        return [
            (self._began[number % KEPT], OUTCOMES[self._outcomes[number % KEPT]])
            for number in range(max(2, newest - KEPT), newest)
        ]


def _boots(worker: WorkerView) -> bool:
    return worker.alive and worker.state is State.BOOTING


def _serves(worker: WorkerView) -> bool:
    return worker.alive and worker.state is State.SERVING
