"""The figures of a service for statsd, through gunicorn's logger and its settings.

A gauge of statsd has one value for the whole service, the last one that came. So one
worker reports for all, from the same facts as every other answer: the serving one with
the lowest id. gunicorn's logger itself sends what concerns a request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from .facts import ServiceFacts, WorkerFacts

PERIOD = 10.0  # seconds, in which statsd servers aggregate by default
SILENT = 3.0  # seconds without a heartbeat, after which the next worker reports
MILLISECONDS = 1000  # to the second: statsd's unit of timings

STATES = ("booting", "serving", "draining", "leaving", "failed")

# The sum over all workers, by the gauge's name behind "uvworker.".
SUMS: Mapping[str, Callable[[WorkerFacts], float | None]] = {
    "connections": lambda w: w.connections,
    "requests_in_flight": lambda w: w.in_flight,
    "resident_memory_bytes": lambda w: w.rss,
    "workers.unhealthy": lambda w: not w.healthy,
}


class Logger(Protocol):
    """gunicorn's ``Statsd``, which is a logger."""

    def gauge(self, name: str, value: float) -> object:
        """Send a gauge."""

    def histogram(self, name: str, value: float) -> object:
        """Send a distribution; in gunicorn 23.0, a timing in milliseconds."""


class Statsd:
    """One worker's reports.

    *observe*: returns the facts of this moment.
    """

    def __init__(self, logger: Logger, observe: Callable[[], ServiceFacts]) -> None:
        self._logger = logger
        self._time = getattr(logger, "timer", logger.histogram)
        self._observe = observe
        self._reported_at = -math.inf

    def booted(self, seconds: float) -> None:
        """Report that this worker serves, so many seconds after its fork."""
        self._time("uvworker.worker.boot", seconds * MILLISECONDS)

    def report(self, now: float, worker_id: int) -> None:
        """Report the figures, if that is due; called once a second.

        Only the lag of its event loop, if it is not the turn of this worker.
        """
        if now - self._reported_at < PERIOD:
            return
        self._reported_at = now
        facts = self._observe()
        for name, value in timings(facts, worker_id):
            self._time(f"uvworker.{name}", value * MILLISECONDS)
        if _reporter(facts) == worker_id:
            for name, value in gauges(facts):
                self._logger.gauge(f"uvworker.{name}", value)


def timings(facts: ServiceFacts, worker_id: int) -> Iterator[tuple[str, float]]:
    """Yield the timings of one worker, in seconds."""
    for worker in facts.workers:
        if worker.id == worker_id:
            yield "loop_lag", worker.worst_lag


def gauges(facts: ServiceFacts) -> Iterator[tuple[str, float]]:
    """Yield the gauges of the service."""
    for state in STATES:
        yield f"workers.{state}", sum(w.state == state for w in facts.workers)
    for name, value in SUMS.items():
        known = [n for w in facts.workers if (n := value(w)) is not None]
        yield name, sum(known)
    waiting = [x.waiting for x in facts.listeners if x.waiting is not None]
    if waiting:
        yield "backlog", sum(waiting)
    yield "reloads.good", facts.reloads.good
    yield "reloads.failed", facts.reloads.failed


def _reporter(facts: ServiceFacts) -> int | None:
    """Return the id of the worker that reports for all."""
    ids = [w.id for w in facts.workers if w.state == "serving" and w.silence < SILENT]
    return min(ids, default=None)
