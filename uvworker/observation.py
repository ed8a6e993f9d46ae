"""What an operator's question finds: the facts of a service, gathered from memory.

The one room that knows both what the workers share and what `operations` answers from.
Runs in any worker, on its operations thread, for all workers of the arbiter. The
rule: nothing here waits, asks the app, or needs its event loop.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

from .access import tally
from .machine import backlog
from .operations import health
from .operations.facts import (
    Counts,
    Generation,
    Listener,
    Recent,
    Reload,
    Reloads,
    RequestFacts,
    ServiceFacts,
    Times,
    WorkerFacts,
)
from .operations.health import Verdict
from .operations.probes import Probes
from .process.heartbeat import orphaned, period
from .shared import Shared
from .shared_memory.counters import GENERATIONS, Count
from .shared_memory.generations import Outcome
from .shared_memory.in_flight import RequestTable
from .shared_memory.scoreboard import WorkerView

PACKAGES = ("uvworker", "gunicorn", "uvicorn")
VERSIONS = {
    **{package: version(package) for package in PACKAGES},
    "python": ".".join(map(str, sys.version_info[:3])),
}

Judge: TypeAlias = Callable[[ServiceFacts], Verdict]

NANOSECONDS = 1_000_000_000  # to the second
TICKS = os.sysconf("SC_CLK_TCK")  # a second, of the times in /proc/PID/stat
PAGE = resource.getpagesize()


@dataclass(frozen=True, slots=True)
class Observation:
    """Gathers the facts when called.

    *name*, *wanted*, *timeout*, *boot_timeout*, *connections_limit*: as configured.
    *listeners*: where the app is served.
    *requests*: those in flight, or None if they are not listed.
    """

    shared: Shared
    name: str
    wanted: int
    timeout: float
    boot_timeout: float | None
    connections_limit: int | None
    listeners: Sequence[socket.socket]
    requests: RequestTable | None

    def __call__(self) -> ServiceFacts:
        """Return the facts of this moment."""
        shared, board = self.shared, self.shared.board
        totals = board.totals()
        rows = board.workers()
        workers = [self._worker(row) for row in rows if row.alive and row.pid]
        answered = shared.answered.rows(board.slots_used)
        counted = shared.counted.rows(board.slots_used)
        return ServiceFacts(
            versions=VERSIONS,
            arbiter=shared.arbiter,
            arbiter_alive=not orphaned(shared.arbiter),
            started_at=shared.started_at,
            wanted=self.wanted,
            ever_served=totals.served,
            timeout=self.timeout,
            boot_timeout=self.boot_timeout,
            workers=workers,
            starts=totals.starts,
            exits={reason.name.lower(): n for reason, n in totals.exits.items()},
            signals={_signal(n): count for n, count in totals.signals.items()},
            reloads=self._reloads(),
            connections_limit=self.connections_limit,
            listeners=[known for s in self.listeners if (known := _listener(s))],
            counts=_counts(answered, counted),
            answered=_sum(answered),
            generation=self._generation(rows),
            requests_in_flight=_in_flight(self.requests, workers)
            if self.requests
            else None,
            name=self.name,
        )

    def recent(self) -> Recent:
        """Return what happened in the last minutes."""
        shared = self.shared
        return Recent(
            points=shared.trend.points(time.monotonic()),
            warnings=shared.warnings.read(shared.board.slots_used),
        )

    def sample(self) -> None:
        """Take a sample of the totals, unless a sibling has."""
        trend, now = self.shared.trend, time.monotonic()
        if trend.lacks(now):
            rows = self.shared.answered.rows(self.shared.board.slots_used)
            trend.record(now, _sum(rows))

    def _worker(self, view: WorkerView) -> WorkerFacts:
        rss, cpu_seconds = _usage(view.pid)
        late = view.silence - period(self.timeout) if view.boot_seconds else 0.0
        lag = max(view.lag, late)
        error = self.shared.warnings.last_error(view.id, view.pid)
        return WorkerFacts(
            id=view.id,
            pid=view.pid,
            state=view.state.name.lower(),
            retiring=view.retiring,
            uptime=view.uptime,
            boot_seconds=view.boot_seconds,
            silence=view.silence,
            lag=lag,
            worst_lag=max(view.worst_lag, lag),
            connections=view.connections,
            websockets=view.websockets,
            in_flight=view.requests_in_flight,
            requests=view.requests_done,
            rss=rss,
            cpu_seconds=cpu_seconds,
            descriptors=view.descriptors or None,
            most_descriptors=view.most_descriptors or None,
            certificate_expires=view.certificate or None,
            last_error=error.text if error else None,
            healthy=not view.unhealthy,
            failed_boots=view.failures,
            problems=self.shared.problems.read(view.id),
        )

    def _generation(self, workers: Sequence[WorkerView]) -> Generation:
        newest = self.shared.generations.current
        state = newest.outcome(workers).value
        return Generation(newest.number, newest.began, state)

    def _reloads(self) -> Reloads:
        board, generations = self.shared.board, self.shared.generations
        last = generations.current
        outcome = last.ended(board.workers(), board.stayed)
        under_way = outcome is Outcome.BOOTING
        latest = [_reload(*before, "overtaken") for before in generations.reloads]
        if last.number > 1:
            latest.append(_reload(last.began, outcome, "under way"))
        return Reloads(
            generation=last.number,
            good=last.good + (outcome is Outcome.SERVING),
            failed=last.failed + (outcome is Outcome.FAILED),
            last=last.began if last.number > 1 else None,
            last_failed=None if under_way else outcome is Outcome.FAILED,
            latest=latest,
        )

    def probes(self, *, root: str, ready: str | None, live: str | None) -> Probes:
        """Return the probes on the app's own port, by path.

        *root*: the root path, with which ASGI's path begins.
        *ready*, *live*: their paths below it; None for no probe.
        """
        asked: Sequence[tuple[str | None, Judge]]
        asked = ((ready, health.ready), (live, health.live))
        return {root + path: self._asking(judge) for path, judge in asked if path}

    def _asking(self, judge: Judge) -> Callable[[], Verdict]:
        return lambda: judge(self())


def _in_flight(
    table: RequestTable, workers: Sequence[WorkerFacts]
) -> list[RequestFacts]:
    """Return the requests of all workers, the oldest first."""
    found = [
        RequestFacts(worker.id, request.method, request.path, request.age)
        for worker in workers
        for request in table.read(worker.id)
    ]
    return sorted(found, key=lambda request: -request.age)


def _reload(began: int, outcome: Outcome, undecided: str) -> Reload:
    words = {Outcome.SERVING: "good", Outcome.FAILED: "failed"}
    return Reload(began, words.get(outcome, undecided))


def _sum(rows: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) for column in zip(*rows, strict=True)]


def _counts(answered: list[list[float]], counted: list[list[float]]) -> Counts:
    """Return the counts of the rows, of which each worker id has one."""
    total = [int(count) for count in _sum(counted)]
    first, their_time = Count.COLLECTIONS, Count.COLLECTION_TIME
    return Counts(
        requests={
            worker_id: sum(found.requests for found in tally.series(row))
            for worker_id, row in enumerate(answered)
        },
        cpu_seconds={
            worker_id: row[Count.CPU_TIME] / NANOSECONDS
            for worker_id, row in enumerate(counted)
        },
        accepted=total[Count.ACCEPTED],
        accept_pauses={"full": total[Count.FULL], "starved": total[Count.STARVED]},
        refused=tally.refused(_sum(answered)),
        boots=_times(total, Count.BOOTS, Count.BOOT_TIME),
        stalls=_times(total, Count.STALLS, Count.STALL_TIME),
        collections={
            generation: _times(total, first + generation, their_time + generation)
            for generation in range(GENERATIONS)
        },
    )


def _times(total: Sequence[int], count: int, time: int) -> Times:
    return Times(total[count], total[time] / NANOSECONDS)


def _signal(number: int) -> str:
    """Return the name of a signal, or its number for those without one."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number) if number else "unknown"


def _usage(pid: int) -> tuple[int | None, float | None]:
    """Return resident bytes and seconds of CPU, which any sibling may read."""
    try:
        # After the name, which may hold anything: field 14 and 15, and 24.
        stat = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None, None
    return int(stat[21]) * PAGE, (int(stat[11]) + int(stat[12])) / TICKS


def _listener(sock: socket.socket) -> Listener | None:
    """Return the kernel's figures of a listener; None once it is closed."""
    try:
        address = sock.getsockname()
    except OSError:
        return None
    unix = sock.family == socket.AF_UNIX
    name = f"unix:{address}" if unix else f"{address[0]}:{address[1]}"
    return Listener(name, *(backlog.waiting(sock) or (None, None)))
