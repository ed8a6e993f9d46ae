"""The scoreboard: shared memory in which the workers of one arbiter see one another.

One anonymous ``mmap``, made in the arbiter before the first fork and inherited by
every worker: a table of 128-byte slots, one per worker. A slot's index is the worker's
id, the smallest that no living worker has. SIGHUP keeps the board, because the arbiter
lives on; SIGUSR2's new arbiter makes its own, because ``exec`` ends the mapping.

The rule: a slot has one writer. The arbiter writes while it hands the slot out; from
the fork on only the worker writes. So there are no locks, and nothing that a worker
killed in mid-write could leave locked. What that takes:

Words. Every field is one aligned 8-byte word, stored and loaded by ``memoryview`` with
one machine instruction on 64-bit CPython: a reader sees the old value or the new one.
A row is several words, and may be read while it changes hands; a reader therefore
reads it again when the age, which no two workers share, changed meanwhile. Rules on
rows must bear that the words of one living worker are microseconds apart.

The dead. A worker cannot be trusted to free its slot (SIGKILL), so none does. The
arbiter frees the slots of the dead when it hands out the next; until then a dead
worker's row stays, with ``alive`` False, and tells siblings how it ended. A pid is
alive if it answers ``kill(pid, 0)`` and, where ``/proc`` exists, is a child of this
arbiter and no zombie: so a recycled pid is not mistaken for a worker. (Should the pid
of a dead worker go to a younger one, the younger slot is the pid's owner.) Without
``/proc``, a zombie or a recycled pid costs a skipped id, never a shared one.

The unborn. The slot is claimed before the fork, without a pid. ``Slot.occupy`` must
run on both sides of the fork, before the arbiter claims again: a slot that has no pid
by then belongs to a fork that failed, and is free.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from operator import itemgetter
from pathlib import Path
from typing import Generic, TypeVar

SLOTS = 4096  # workers; a reload needs twice their number. Untouched slots cost nothing
WORDS = 16  # words of a slot: 128 bytes, two cache lines, so that writers never share
MICROSECONDS = 1_000_000  # to the second: times are stored as whole microseconds
FORGIVEN = 60.0  # seconds: twice the longest pause after a failed boot


class State(IntEnum):
    """Where a worker is in its life. Only a serving worker accepts connections."""

    FREE = 0  # no worker
    BOOTING = 1  # from before the fork to the end of the lifespan startup
    SERVING = 2
    DRAINING = 3  # accepts no more, finishes what it has
    LEAVING = 4  # nothing left to finish: lifespan shutdown, hooks, exit
    FAILED = 5  # could not boot, waits before it exits


T = TypeVar("T", bound=int)


class _Field(Generic[T]):
    """One word of a slot as an attribute; each access touches shared memory."""

    def __init__(self, index: int, kind: Callable[[int], T]) -> None:
        self.index = index
        self.kind = kind

    def __get__(self, slot: Slot, owner: type[Slot]) -> T:
        return self.kind(slot.words[self.index])

    def __set__(self, slot: Slot, value: T) -> None:
        slot.words[self.index] = value


class Word(IntEnum):
    """Which word of a row holds what."""

    STATE = 0
    AGE = 1
    PID = 2
    TOLD = 3
    DUE = 4
    CONNECTIONS = 5
    REQUESTS_IN_FLIGHT = 6
    REQUESTS_DONE = 7
    HEARTBEAT = 8
    FAILURES = 9
    FAILED_AT = 10
    LOOKS = 11  # at the backlog: a sign of life with every connection that comes


class Slot:
    """The writing end of one worker's row; lives in the arbiter, then in the worker."""

    state = _Field(Word.STATE, State)
    age = _Field(Word.AGE, int)  # gunicorn's ``worker.age``: grows with every fork
    pid = _Field(Word.PID, int)  # 0 until the fork
    told = _Field(Word.TOLD, bool)  # got SIGTERM and has not taken it back
    due = _Field(Word.DUE, bool)  # wants to be recycled, and waits for its turn
    connections = _Field(Word.CONNECTIONS, int)  # open now
    requests_in_flight = _Field(Word.REQUESTS_IN_FLIGHT, int)
    requests_done = _Field(Word.REQUESTS_DONE, int)
    failures = _Field(Word.FAILURES, int)  # failed boots in a row; outlives the worker

    def __init__(self, worker_id: int, words: memoryview) -> None:
        self.id = worker_id
        self.words = words

    def occupy(self, pid: int) -> None:
        """Say who was forked: right after the fork, in the arbiter and in the worker.

        Both write the same value; gunicorn assigns ``worker.pid`` at just these places.
        """
        self.pid = pid

    def beat(self, now: float) -> None:
        """Give a life sign. *now*: ``time.monotonic()``, one clock for all workers."""
        self.words[Word.HEARTBEAT] = int(now * MICROSECONDS)

    def serve(self) -> None:
        """Start to accept connections; failed boots before this one are forgotten."""
        self.failures = 0
        self.state = State.SERVING

    def fail(self, now: float) -> None:
        """Record that this worker cannot boot, at ``now`` (``time.monotonic()``)."""
        self.words[Word.FAILED_AT] = int(now * MICROSECONDS)
        self.failures += 1
        self.state = State.FAILED

    def reset(self, age: int, now: float) -> None:
        """Hand the slot to a new worker, in the arbiter; the state is written last.

        The count of failed boots stays, for the successor of a worker that could not
        boot, unless the last failure is too long ago to be its predecessor's.
        """
        self.state = State.FREE
        failures, failed_at = self.failures, self.words[Word.FAILED_AT]
        if now - failed_at / MICROSECONDS > FORGIVEN:
            failures = 0
        for index in range(1, WORDS):
            self.words[index] = 0
        self.failures, self.words[Word.FAILED_AT] = failures, failed_at
        self.beat(now)
        self.age = age
        self.state = State.BOOTING


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker's row as it was when it was read."""

    id: int
    alive: bool  # False: dead, and its slot is not handed out again yet
    state: State
    age: int
    pid: int
    told: bool
    due: bool
    connections: int
    requests_in_flight: int
    requests_done: int
    silence: float  # seconds since the last life sign
    failures: int
    failed_at: float  # time.monotonic() of the last failed boot in this slot


class Scoreboard:
    """The table of all slots. Construct it in the arbiter, once.

    *slots*: how many workers there can be at a time.
    """

    def __init__(self, slots: int = SLOTS) -> None:
        self._arbiter = os.getpid()
        self._proc_is_ours = _proc_is_ours()
        # The first row is the board's own: how many slots were ever in use. Written
        # by the arbiter only, it spares readers the slots that no worker ever had.
        self._words = memoryview(mmap.mmap(-1, (slots + 1) * WORDS * 8)).cast("q")
        self._slots = slots

    def claim(self, age: int, now: float | None = None) -> Slot:
        """Hand out the free slot with the smallest id; in the arbiter, before the fork.

        *age*: gunicorn's ``worker.age`` of the worker under construction.
        *now*: ``time.monotonic()``, or None to look at the clock.
        Raises ``RuntimeError`` when every slot has a living worker.
        """
        self._bury()
        for worker_id in range(self._slots):
            row = self._row(worker_id)
            if row[Word.STATE] == State.FREE:
                break
        else:
            raise RuntimeError(f"uvworker has room for {self._slots} workers, not more")
        slot = Slot(worker_id, row)
        slot.reset(age, time.monotonic() if now is None else now)
        self._words[0] = max(self._words[0], worker_id + 1)
        return slot

    def rows(self) -> list[memoryview]:
        """Return the live rows of all slots that were ever in use, by worker id."""
        return [self._row(worker_id) for worker_id in range(self._words[0])]

    def workers(self, now: float | None = None) -> list[WorkerView]:
        """Every worker, the dead too whose slots are not handed out again yet.

        Asks the kernel about every pid, some 15 µs each: for decisions and metrics, not
        for every connection. *now*: ``time.monotonic()``.
        """
        now = time.monotonic() if now is None else now
        rows = [_read(row) for row in self.rows()]
        by_age = sorted(rows, key=itemgetter(Word.AGE))
        owners = {row[Word.PID]: row[Word.AGE] for row in by_age}
        return [
            _view(worker_id, row, now, alive=self._is_alive(row, owners))
            for worker_id, row in enumerate(rows)
            if row[Word.STATE]
        ]

    def siblings(self, slot: Slot, now: float | None = None) -> list[WorkerView]:
        """Every worker but this one; see `workers`."""
        return [view for view in self.workers(now) if view.id != slot.id]

    def _bury(self) -> None:
        """Free the slots of the dead and of those that were never forked."""
        for view in self.workers():
            if not (view.alive and view.pid):
                slot = Slot(view.id, self._row(view.id))
                if view.pid and view.state is State.BOOTING and not view.told:
                    slot.fail(time.monotonic())  # it could not say so itself
                slot.state = State.FREE

    def _row(self, worker_id: int) -> memoryview:
        start = (worker_id + 1) * WORDS
        return self._words[start : start + WORDS]

    def _is_alive(self, row: list[int], owners: dict[int, int]) -> bool:
        pid = row[Word.PID]
        if pid == 0:
            return True  # about to be forked
        return owners[pid] == row[Word.AGE] and self._is_worker(pid)

    def _is_worker(self, pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # a sibling that has not dropped its privileges yet, or a stranger
        if not self._proc_is_ours:
            return True
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return True  # hidden, or no file descriptor left: the kernel's answer holds
        # After the name, which may hold anything: the state, then the parent's pid.
        state, parent = stat.rpartition(b")")[2].split(maxsplit=2)[:2]
        return int(parent) == self._arbiter and state not in b"ZX"


def _read(row: memoryview) -> list[int]:
    """Copy a row whose words are all of one worker."""
    while True:
        words: list[int] = row.tolist()
        if words[Word.AGE] == row[Word.AGE]:
            return words


def _view(worker_id: int, row: list[int], now: float, *, alive: bool) -> WorkerView:
    return WorkerView(
        id=worker_id,
        alive=alive,
        state=State(row[Word.STATE]),
        age=row[Word.AGE],
        pid=row[Word.PID],
        told=bool(row[Word.TOLD]),
        due=bool(row[Word.DUE]),
        connections=row[Word.CONNECTIONS],
        requests_in_flight=row[Word.REQUESTS_IN_FLIGHT],
        requests_done=row[Word.REQUESTS_DONE],
        silence=now - row[Word.HEARTBEAT] / MICROSECONDS,
        failures=row[Word.FAILURES],
        failed_at=row[Word.FAILED_AT] / MICROSECONDS,
    )


def _proc_is_ours() -> bool:
    """Whether ``/proc`` counts pids as this process does, not as another namespace."""
    with suppress(OSError):
        return Path("/proc/self").readlink() == Path(str(os.getpid()))
    return False
