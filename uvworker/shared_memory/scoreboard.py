"""The scoreboard: shared memory in which the workers of one arbiter see one another.

One anonymous ``mmap``, made in the arbiter before the first fork and inherited by
every worker: a table of 256-byte slots, one per worker. A slot's index is the worker's
id, the smallest that no living worker has. SIGHUP keeps the board, because the arbiter
lives on; SIGUSR2's new arbiter makes its own, because ``exec`` ends the mapping.

The rule: a slot has one writer. The arbiter writes while it hands the slot out; from
the fork on only the worker writes. So there are no locks, and nothing that a worker
killed in mid-write could leave locked. What that takes:

Words. Every field is one aligned 8-byte word, stored and loaded by ``memoryview`` with
one machine instruction on 64-bit CPython: a reader sees the old value or the new one.
A row is several words, and may pass to another worker while it is read; a reader
therefore reads it again if the age, which no two workers share, has changed meanwhile.
The words of one living worker may be microseconds apart.

Dead workers. A worker that is killed cannot free its slot, so no worker does. The
arbiter frees the slots of dead workers when it hands out the next one. Until then the
row stays, with ``alive`` False, and shows siblings how the worker ended. `pids` says
which pids are alive. (If the pid of a dead worker goes to a younger one, the pid
belongs to the younger slot.)

Workers not yet forked. The slot is claimed before the fork, without a pid.
``Slot.occupy`` must run on both sides of the fork, before the arbiter claims again: a
slot without a pid then belongs to a fork that failed, and is free.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from operator import itemgetter
from typing import Generic, TypeVar

from .history import WORDS as HISTORY_WORDS
from .history import Exit, History, Total, Totals
from .pids import Children

SLOTS = 4096  # workers; a reload needs twice their number. Untouched slots cost nothing
WORDS = 32  # words of a slot: 256 bytes, four cache lines, so that writers never share
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


class Column(IntEnum):
    """Which word of a row holds what."""

    STATE = 0
    AGE = 1
    PID = 2
    TERMINATING = 3
    DUE = 4
    CONNECTIONS = 5
    REQUESTS_IN_FLIGHT = 6
    REQUESTS_DONE = 7
    HEARTBEAT = 8
    FAILURES = 9
    FAILED_AT = 10
    LOOKS = 11  # at the backlog: a sign of life with every connection that comes
    RETIRING = 12
    BORN = 13
    SERVED_AT = 14
    EXIT = 15
    LAG = 16
    SIGNAL = 17
    STAYED = 18
    WORST_LAG = 19
    WEBSOCKETS = 20
    DESCRIPTORS = 21
    MOST_DESCRIPTORS = 22
    CERTIFICATE = 23
    UNHEALTHY = 24
    WRITES_STACKS = 25


class Slot:
    """The writing end of one worker's row; lives in the arbiter, then in the worker."""

    state = _Field(Column.STATE, State)
    age = _Field(Column.AGE, int)  # gunicorn's ``worker.age``: grows with every fork
    pid = _Field(Column.PID, int)  # 0 until the fork
    terminating = _Field(Column.TERMINATING, bool)  # got SIGTERM, and not revoked
    due = _Field(Column.DUE, bool)  # wants to be recycled, and waits for its turn
    connections = _Field(Column.CONNECTIONS, int)  # open now
    requests_in_flight = _Field(Column.REQUESTS_IN_FLIGHT, int)
    requests_done = _Field(Column.REQUESTS_DONE, int)
    retiring = _Field(Column.RETIRING, bool)  # is about to drain, for good
    unhealthy = _Field(Column.UNHEALTHY, bool)  # a check of the app fails
    exit = _Field(Column.EXIT, Exit)  # why it ends
    signal = _Field(Column.SIGNAL, int)  # by which it was killed; 0 if unknown
    stayed = _Field(Column.STAYED, int)  # age of the youngest that did not replace it
    websockets = _Field(Column.WEBSOCKETS, int)  # open now
    descriptors = _Field(Column.DESCRIPTORS, int)  # open now; 0 if unknown
    most_descriptors = _Field(Column.MOST_DESCRIPTORS, int)
    certificate = _Field(Column.CERTIFICATE, int)  # when it expires, since the epoch
    writes_stacks = _Field(Column.WRITES_STACKS, bool)  # on the signal of `c_stacks`
    failures = _Field(Column.FAILURES, int)  # failed boots in a row of this slot

    def __init__(self, worker_id: int, words: memoryview) -> None:
        self.id = worker_id
        self.words = words

    def occupy(self, pid: int) -> None:
        """Record the pid, right after the fork, in the arbiter and in the worker.

        Both write the same value; gunicorn assigns ``worker.pid`` at just these places.
        """
        self.pid = pid

    def detach(self) -> None:
        """Write to private memory from now on; in a process that the app forks."""
        self.words = memoryview(bytearray(self.words.tobytes())).cast("q")

    def beat(self, now: float, lag: float = 0.0, worst: float = 0.0) -> None:
        """Send a heartbeat, *lag* seconds late, and *worst* seconds of late.

        *now*: ``time.monotonic()``, one clock for all workers.
        """
        self.words[Column.LAG] = int(lag * MICROSECONDS)
        self.words[Column.WORST_LAG] = int(worst * MICROSECONDS)
        self.words[Column.HEARTBEAT] = int(now * MICROSECONDS)

    def serve(self) -> None:
        """Record that this worker serves; reset the count of failed boots."""
        self.failures = 0
        self.words[Column.SERVED_AT] = int(time.monotonic() * MICROSECONDS)
        self.state = State.SERVING

    @property
    def boot_seconds(self) -> float:
        """Seconds from the fork until it served."""
        words = self.words
        return (words[Column.SERVED_AT] - words[Column.BORN]) / MICROSECONDS

    def fail(self, now: float) -> None:
        """Record that this worker cannot boot, at ``now`` (``time.monotonic()``)."""
        self.words[Column.FAILED_AT] = int(now * MICROSECONDS)
        self.failures += 1
        self.exit = Exit.BOOT_FAILED
        self.state = State.FAILED

    def reset(self, age: int, now: float) -> None:
        """Hand the slot to a new worker, in the arbiter; the state is written last.

        The count of failed boots stays, for the successor of a worker that could not
        boot, unless the last failure is older than `FORGIVEN`.
        """
        self.state = State.FREE
        failures, failed_at = self.failures, self.words[Column.FAILED_AT]
        if now - failed_at / MICROSECONDS > FORGIVEN:
            failures = 0
        for index in range(1, WORDS):
            self.words[index] = 0
        self.failures, self.words[Column.FAILED_AT] = failures, failed_at
        self.words[Column.BORN] = int(now * MICROSECONDS)
        self.beat(now)
        self.age = age
        self.state = State.BOOTING


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker's row as it was when it was read."""

    id: int
    alive: bool  # False: dead, and its slot is not reused yet
    state: State
    age: int
    pid: int
    terminating: bool
    due: bool
    connections: int
    requests_in_flight: int
    requests_done: int
    silence: float  # seconds since the last heartbeat
    failures: int
    failed_at: float  # time.monotonic() of the last failed boot in this slot
    retiring: bool = False
    uptime: float = 0.0  # seconds since the slot was handed out
    boot_seconds: float | None = None  # until it served; None before
    lag: float = 0.0  # seconds by which the last heartbeat was late
    worst_lag: float = 0.0  # in the last minute
    unhealthy: bool = False
    exit: Exit = Exit.KILLED
    signal: int = 0
    stayed: int = 0
    websockets: int = 0
    descriptors: int = 0
    most_descriptors: int = 0
    certificate: int = 0
    writes_stacks: bool = False


class Scoreboard:
    """The table of all slots. Construct it in the arbiter, once.

    *slots*: how many workers there can be at a time.
    """

    def __init__(self, slots: int = SLOTS) -> None:
        self._children = Children()
        # In front of the slots is the arbiter's own part. How many slots were ever in
        # use spares readers those that no worker ever had.
        size = HISTORY_WORDS + slots * WORDS
        self._words = memoryview(mmap.mmap(-1, size * 8)).cast("q")
        self._history = History(self._words[:HISTORY_WORDS])
        self._slots = slots

    def claim(self, age: int, now: float | None = None) -> Slot:
        """Hand out the free slot with the smallest id; in the arbiter, before the fork.

        *age*: gunicorn's ``worker.age`` of the worker under construction.
        *now*: ``time.monotonic()``, or None to look at the clock.
        Raises ``RuntimeError`` when every slot has a living worker.
        """
        self._free_dead()
        for worker_id in range(self._slots):
            row = self._row(worker_id)
            if row[Column.STATE] == State.FREE:
                break
        else:
            raise RuntimeError(f"uvworker has room for {self._slots} workers, not more")
        self._history.start(worker_id)
        slot = Slot(worker_id, row)
        slot.reset(age, time.monotonic() if now is None else now)
        return slot

    @property
    def slots_used(self) -> int:
        """How many slots were ever in use; ids of workers are below it."""
        return self._words[Total.SLOTS]

    def rows(self) -> list[memoryview]:
        """Return the live rows of all slots that were ever in use, by worker id."""
        return [self._row(worker_id) for worker_id in range(self.slots_used)]

    def unexplained(self) -> list[Slot]:
        """Return the slots of workers that have not written why they end."""
        slots = [Slot(worker_id, row) for worker_id, row in enumerate(self.rows())]
        return [s for s in slots if s.state and s.pid and s.exit is Exit.KILLED]

    def workers(self, now: float | None = None) -> list[WorkerView]:
        """Return every worker, dead ones included until their slots are reused.

        Asks the kernel about every pid, some 15 µs each: for decisions and metrics, not
        for every connection. *now*: ``time.monotonic()``.
        """
        now = time.monotonic() if now is None else now
        rows = [_read(row) for row in self.rows()]
        by_age = sorted(rows, key=itemgetter(Column.AGE))
        owners = {row[Column.PID]: row[Column.AGE] for row in by_age}
        return [
            _view(worker_id, row, now, alive=self._is_alive(row, owners))
            for worker_id, row in enumerate(rows)
            if row[Column.STATE]
        ]

    def siblings(self, slot: Slot, now: float | None = None) -> list[WorkerView]:
        """Return every worker but this one; see `workers`."""
        return [view for view in self.workers(now) if view.id != slot.id]

    def totals(self) -> Totals:
        """Return the counts over all workers since the start, dead ones included."""
        return self._history.read(self.workers())

    @property
    def stayed(self) -> int:
        """The largest `Slot.stayed` of the workers that are gone."""
        return self._words[Total.STAYED]

    def _free_dead(self) -> None:
        """Free the slots of dead workers and of forks that failed."""
        for view in self.workers():
            if not (view.alive and view.pid):
                slot = Slot(view.id, self._row(view.id))
                if view.pid and view.state is State.BOOTING and not view.terminating:
                    slot.fail(time.monotonic())  # it was killed before it could
                if view.pid:
                    self._history.bury(view)
                slot.state = State.FREE

    def _row(self, worker_id: int) -> memoryview:
        start = HISTORY_WORDS + worker_id * WORDS
        return self._words[start : start + WORDS]

    def _is_alive(self, row: list[int], owners: dict[int, int]) -> bool:
        pid = row[Column.PID]
        if pid == 0:
            return True  # about to be forked
        return owners[pid] == row[Column.AGE] and pid in self._children


def _read(row: memoryview) -> list[int]:
    """Copy a row whose words are all of one worker."""
    while True:
        words: list[int] = row.tolist()
        if words[Column.AGE] == row[Column.AGE]:
            return words


def _view(worker_id: int, row: list[int], now: float, *, alive: bool) -> WorkerView:
    return WorkerView(
        id=worker_id,
        alive=alive,
        state=State(row[Column.STATE]),
        age=row[Column.AGE],
        pid=row[Column.PID],
        terminating=bool(row[Column.TERMINATING]),
        due=bool(row[Column.DUE]),
        connections=row[Column.CONNECTIONS],
        requests_in_flight=row[Column.REQUESTS_IN_FLIGHT],
        requests_done=row[Column.REQUESTS_DONE],
        silence=now - row[Column.HEARTBEAT] / MICROSECONDS,
        failures=row[Column.FAILURES],
        failed_at=row[Column.FAILED_AT] / MICROSECONDS,
        retiring=bool(row[Column.RETIRING]),
        uptime=now - row[Column.BORN] / MICROSECONDS,
        boot_seconds=(row[Column.SERVED_AT] - row[Column.BORN]) / MICROSECONDS
        if row[Column.SERVED_AT]
        else None,
        lag=row[Column.LAG] / MICROSECONDS,
        worst_lag=row[Column.WORST_LAG] / MICROSECONDS,
        unhealthy=bool(row[Column.UNHEALTHY]),
        exit=Exit(row[Column.EXIT]),
        signal=row[Column.SIGNAL],
        stayed=row[Column.STAYED],
        websockets=row[Column.WEBSOCKETS],
        descriptors=row[Column.DESCRIPTORS],
        most_descriptors=row[Column.MOST_DESCRIPTORS],
        certificate=row[Column.CERTIFICATE],
        writes_stacks=bool(row[Column.WRITES_STACKS]),
    )
