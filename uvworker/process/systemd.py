"""What the arbiter tells systemd about its service, and when.

The arbiter is the process that systemd calls the main one, so a unit needs no
``NotifyAccess``. It runs no code of this package by itself: a timer wakes it by SIGALRM
once a second, in a reload and in a stop too, and without a thread, which a fork would
not survive. What it tells is computed from the scoreboard.

The rule: a handler neither logs, nor waits, nor raises.

Source: sd_notify(3); systemd.service(5), ``Type=notify-reload``.
"""

from __future__ import annotations

import functools
import math
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

from ..machine import notify_socket
from ..machine.notify_socket import NotifySocket
from ..shared_memory.generations import Generation, Generations, Outcome
from ..shared_memory.scoreboard import Scoreboard, State, WorkerView

PERIOD = 1.0  # seconds between two looks
BOOT_PERIOD = 0.1  # seconds, during a start or a reload, for whose end somebody waits
SIGNS = 4  # looks in the period of the watchdog
SILENT = 3.0  # seconds without a heartbeat, of which there is one a second: it hangs
STATUS_PERIOD = 10.0  # seconds until figures alone are worth a message
# Seconds by which a start, a reload or a stop is extended at each look.
EXTENSION = 10.0

STOPS = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT
MICROSECONDS = 1_000_000


class Notifier:
    """Speaks for one arbiter; made and used in it.

    *notify*: the socket. *watchdog*: seconds in which systemd wants a sign, or None.
    *predecessor*: the pid of the arbiter that this one replaces (USR2), or None.
    """

    def __init__(
        self,
        notify: NotifySocket,
        board: Scoreboard,
        generations: Generations,
        *,
        watchdog: float | None,
        predecessor: int | None,
    ) -> None:
        self.boot_timeout: float | None = None  # of the newest configuration
        self._socket = notify
        self._board = board
        self._generations = generations
        self._watchdog = watchdog
        self._predecessor = predecessor
        self._unsent: list[str] = []  # messages that must arrive, in order
        self._ready = self._reloading = False
        self._announced = 1  # the number of the generation
        self._stopping = self._replaced = self._forked = False
        self._looking = self._look_again = False
        self._signed_at = self._described_at = -math.inf
        self._summary = self._status = ""
        self._wake_arbiter: Callable[[], object] | None = None

    def start(self) -> None:
        """Speak from now on; raises ``OSError`` if nobody listens."""
        with suppress(BlockingIOError):  # its queue is full: somebody listens
            self._socket.send("STATUS=Starting.")
        for signum in STOPS:
            handler = signal.getsignal(signum)
            if callable(handler):
                signal.signal(signum, functools.partial(self._stop, handler))
        os.register_at_fork(after_in_child=self._forget)
        arbiter = getattr(signal.getsignal(signal.SIGHUP), "__self__", None)
        self._wake_arbiter = getattr(arbiter, "wakeup", None)
        signal.signal(signal.SIGALRM, self._woken)
        self._wake_later()

    def look(self) -> None:
        """Look at the workers, and tell what has changed."""
        self._look_again = True
        if self._looking:  # a signal came meanwhile
            return
        self._looking = True
        try:
            while self._look_again:
                self._look_again = False
                self._tell(time.monotonic())
        finally:
            self._looking = False
            self._wake_later()

    def _wake_later(self) -> None:
        if not self._forked:
            boots = self._reloading or not (self._ready or self._stopping)
            period = BOOT_PERIOD if boots else PERIOD
            period = min(period, (self._watchdog or math.inf) / SIGNS)
            signal.setitimer(signal.ITIMER_REAL, period)

    # In signal handlers and in forked processes

    def _woken(self, _signum: int, _frame: FrameType | None) -> None:
        """Look, and let gunicorn's arbiter look too.

        It waits for signals in a timed `SimpleQueue.get`. Before Python 3.13, a signal
        that is handled beyond the deadline makes that wait for ever, and an arbiter
        that waits kills no hung worker.
        """
        self.look()
        if self._wake_arbiter is not None and not self._forked:
            self._wake_arbiter()

    def _stop(
        self,
        handler: Callable[[int, FrameType | None], Any],
        signum: int,
        frame: FrameType | None,
    ) -> None:
        """Say that the arbiter stops, and let gunicorn handle the signal."""
        if not (self._stopping or self._forked):
            self._stopping = True
            if successor := _successor(handler):
                self._replaced = True
                self._unsent.append(f"MAINPID={successor}")
            elif not self._succeeds():
                self._unsent.append("STOPPING=1")
            self.look()
        handler(signum, frame)

    def _forget(self) -> None:
        """Keep a worker from speaking; its app may use SIGALRM."""
        if not self._forked:
            self._forked = True
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            notify_socket.forget()
            self._socket.close()

    # What is told

    def _tell(self, now: float) -> None:
        if self._forked:
            return
        # Its queue may be full, or systemd restart; nothing here may end the arbiter.
        with suppress(Exception):
            lines = self._lines(self._board.workers(now), now)
            while self._unsent:
                self._socket.send(self._unsent[0])
                del self._unsent[0]
            if lines:
                self._socket.send("\n".join(lines))

    def _lines(self, workers: Sequence[WorkerView], now: float) -> list[str]:
        if self._replaced:
            return []
        if self._succeeds():
            return self._sign(workers, now)
        progress = [_extension()] if self._stopping else self._advance(workers)
        told = self._describe(workers, now)
        return [*progress, *told, *self._sign(workers, now)]

    def _succeeds(self) -> bool:
        """Return whether the arbiter before this one lives, and speaks."""
        return self._predecessor is not None and os.getppid() == self._predecessor

    def _advance(self, workers: Sequence[WorkerView]) -> list[str]:
        """Say how a start or a reload goes on."""
        generation = self._generations.current
        if self._ready and generation.number != self._announced:
            self._announced, self._reloading = generation.number, True
            stamp = time.monotonic_ns() // 1000
            self._unsent.append(f"RELOADING=1\nMONOTONIC_USEC={stamp}")
        if self._ready and not self._reloading:
            return []
        if generation.outcome(workers) is Outcome.BOOTING:
            in_time = any(
                w.state is State.BOOTING and self._is_well(w) for w in workers
            )
            return [_extension()] if in_time else []
        self._ready, self._reloading = True, False
        self._announced = generation.number
        self._signed_at = -math.inf  # systemd's watchdog runs from now on
        self._unsent.append("READY=1")
        return []

    def _describe(self, workers: Sequence[WorkerView], now: float) -> list[str]:
        alive = [w for w in workers if w.alive]
        summary = self._summarize(workers)
        in_flight = sum(w.requests_in_flight for w in alive)
        connections = sum(w.connections for w in alive)
        status = f"{summary}; {in_flight} requests in flight, {connections} connections"
        due = summary != self._summary or now - self._described_at >= STATUS_PERIOD
        if not due or status == self._status:
            return []
        self._summary, self._status, self._described_at = summary, status, now
        return [f"STATUS={status}"]

    def _summarize(self, workers: Sequence[WorkerView]) -> str:
        generation = self._generations.current
        if self._stopping:
            return f"Stopping: {sum(w.alive for w in workers)} workers are left"
        serving = [w for w in workers if w.alive and w.state is State.SERVING]
        new = sum(w.age >= generation.first_age for w in serving)
        if self._reloading:
            return f"Reloading: {new} of {generation.wanted} new workers serve"
        kept = [w for w in serving if not w.terminating] or serving
        summary = f"{len(kept)} of {generation.wanted} workers serve"
        if not self._ready:
            return f"Starting: {summary}"
        if _has_failed(generation, workers):
            return f"The last reload failed, the log says why; {summary}"
        return summary

    def _sign(self, workers: Sequence[WorkerView], now: float) -> list[str]:
        """Return the sign of life, if one is due and a worker is well."""
        period = self._watchdog
        if period is None or now - self._signed_at < period / (SIGNS + 1):
            return []
        if not any(map(self._is_well, workers)):
            return []
        self._signed_at = now
        return ["WATCHDOG=1"]

    def _is_well(self, worker: WorkerView) -> bool:
        """Return whether its loop turns, or it boots in time and for the first time."""
        if not worker.alive or worker.state is State.FAILED:
            return False
        if worker.state is State.BOOTING:
            limit = self.boot_timeout
            in_time = limit is None or worker.uptime <= limit + SILENT
            return in_time and worker.failures == 0
        return worker.silence <= SILENT


def _extension() -> str:
    return f"EXTEND_TIMEOUT_USEC={int(EXTENSION * MICROSECONDS)}"


def _has_failed(generation: Generation, workers: Sequence[WorkerView]) -> bool:
    return generation.number > 1 and generation.outcome(workers) is Outcome.FAILED


def _successor(handler: object) -> int:
    """Return the pid of the arbiter that USR2 has started, or 0.

    *handler*: gunicorn's of a signal, which is a method of its arbiter.
    """
    return getattr(getattr(handler, "__self__", None), "reexec_pid", 0)
