"""What has happened to the workers of one arbiter: starts and ends, counted.

The rule: the arbiter counts, when it hands a slot out. Until then, the row of a dead
worker says how it ended, and readers add it: a count is right at once, and never falls.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

WORDS = 128
NOTED = 3.0  # seconds after a heartbeat: by then the arbiter knows how a worker died


class Exit(IntEnum):
    """Why a worker ends, as it writes itself; one that is killed writes nothing."""

    KILLED = 0
    TERM = 1  # SIGTERM: a stop, a reload, fewer workers
    QUIT = 2  # SIGINT or SIGQUIT, or the reloader's wish
    MAX_REQUESTS = 3
    MAX_RSS = 4
    MAX_LIFETIME = 5
    HUNG = 6  # for gunicorn's `timeout`
    ORPHANED = 7
    BOOT_FAILED = 8
    APP = 9  # the app ended the loop, as by `sys.exit()`
    UNEXPLAINED = 10  # by itself, as by `os._exit()` in the app


class Total(IntEnum):
    """Which word holds what."""

    SLOTS = 0  # that were ever in use
    STARTS = 1
    SERVED = 2  # workers that served and are gone
    STAYED = 3  # the largest of those that are gone
    EXITS = 16  # and the words behind it, one for each `Exit`
    SIGNALS = 32  # and the words behind it: workers killed by each signal


class Life(Protocol):
    """A worker's row, as far as it is counted; see `scoreboard.WorkerView`."""

    @property
    def alive(self) -> bool:
        """Whether it lives."""

    @property
    def exit(self) -> Exit:
        """Why it ends, as it says."""

    @property
    def signal(self) -> int:
        """The signal that killed it, or 0."""

    @property
    def silence(self) -> float:
        """Seconds since its last heartbeat."""

    @property
    def boot_seconds(self) -> float | None:
        """How long it took to serve; None before."""

    @property
    def stayed(self) -> int:
        """See `scoreboard.Slot`."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts over all workers since the board was made."""

    starts: int
    served: int  # workers that served
    exits: Mapping[Exit, int]
    signals: Mapping[int, int]  # of the killed ones; 0 is an unknown signal


class History:
    """The counts; *words* are shared memory, zero at the start."""

    def __init__(self, words: memoryview) -> None:
        self.words = words

    # In the arbiter

    def start(self, worker_id: int) -> None:
        """Count a worker that is about to be forked."""
        words = self.words
        words[Total.SLOTS] = max(words[Total.SLOTS], worker_id + 1)
        words[Total.STARTS] += 1

    def bury(self, worker: Life) -> None:
        """Count a worker whose slot is about to be reused."""
        words = self.words
        words[Total.EXITS + _reason(worker)] += 1
        words[Total.SERVED] += worker.boot_seconds is not None
        words[Total.STAYED] = max(words[Total.STAYED], worker.stayed)
        if worker.exit is Exit.KILLED:
            words[Total.SIGNALS + worker.signal] += 1

    # Anywhere

    def read(self, workers: Sequence[Life]) -> Totals:
        """Return the counts; *workers* are all that have a slot, dead ones too."""
        words = self.words.tolist()
        exits = {reason: words[Total.EXITS + reason] for reason in Exit}
        killed = {n: words[Total.SIGNALS + n] for n in range(signal.NSIG)}
        for worker in filter(_is_explained, workers):
            exits[_reason(worker)] += 1
            if worker.exit is Exit.KILLED:
                killed[worker.signal] += 1
        served = sum(worker.boot_seconds is not None for worker in workers)
        return Totals(
            starts=words[Total.STARTS],
            served=words[Total.SERVED] + served,
            exits=exits,
            signals={n: count for n, count in killed.items() if count},
        )


def _is_explained(worker: Life) -> bool:
    """Return whether it is dead, and nothing more will be said about why."""
    told = worker.exit or worker.signal or worker.silence > NOTED
    return bool(not worker.alive and told)


def _reason(worker: Life) -> Exit:
    never_served = worker.boot_seconds is None
    if never_served and worker.exit is Exit.UNEXPLAINED:
        return Exit.BOOT_FAILED
    return worker.exit
