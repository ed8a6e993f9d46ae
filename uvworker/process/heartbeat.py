"""Heartbeats of a worker, and the stacks that are logged when they stop.

One rule: a beat is a callback of the event loop. While the loop turns, the worker is
alive, also in a slow startup, a long drain and a slow shutdown. When it does not turn,
the arbiter's ``timeout`` runs, and the stacks are logged before the worker is killed.
A pause of the whole service is not a missing heartbeat; `heartbeat_file` recognises it
in the arbiter.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import signal
import time
from collections.abc import Callable, Iterator

LONGEST_PERIOD = 1.0  # seconds; the arbiter looks once a second
BEATS_PER_TIMEOUT = 3  # so that two late beats in a row are not taken for a hang


def period(timeout: float) -> float:
    """Return the seconds between two beats for gunicorn's ``timeout`` (0: none)."""
    if timeout <= 0:
        return LONGEST_PERIOD
    return min(LONGEST_PERIOD, timeout / BEATS_PER_TIMEOUT)


class Worst:
    """The largest value of the last minute, up to ten seconds more."""

    TEN = 10.0  # seconds
    KEPT = 7  # tens

    def __init__(self) -> None:
        self._tens: dict[int, float] = {}

    def add(self, now: float, value: float) -> float:
        """Add *value*, and return the largest."""
        ten = int(now / self.TEN)
        tens = {t: v for t, v in self._tens.items() if t > ten - self.KEPT}
        tens[ten] = max(value, tens.get(ten, 0.0))
        self._tens = tens
        return max(tens.values())


class Stacks:
    """Writes the stacks of all threads to the error log, by C code.

    This also works while other C code holds the interpreter and no Python handler can
    run. Made in the worker.

    *error_fd*: returns the descriptor of the error log, which USR1 reopens.
    """

    def __init__(self, error_fd: Callable[[], int]) -> None:
        self._error_fd = error_fd
        self._fd = os.dup(error_fd())

    def follow(self) -> None:
        """Follow the error log to the file that it writes to now."""
        os.dup2(self._error_fd(), self._fd, inheritable=False)

    def dump_on_abort(self) -> None:
        """Write the stacks on ABRT, before the handler that is installed now runs.

        Within milliseconds: SIGKILL may follow soon. Crashes (SIGSEGV) leave their
        stacks as well. An app that enables ``faulthandler`` has them in its own file.
        """
        handler = signal.getsignal(signal.SIGABRT)
        faulthandler.disable()  # or `enable` would not install its handler again
        signal.signal(signal.SIGABRT, handler)
        faulthandler.enable(self._fd)

    def exit_in(self, seconds: float) -> None:
        """Write the stacks and end the process with ``ABORTED``."""
        faulthandler.dump_traceback_later(seconds, exit=True, file=self._fd)


class Heartbeat:
    """Calls *beat* on the loop once a period.

    *beat*: must not block.
    *timeout*: gunicorn's ``timeout``, seconds; 0 for no limit.
    """

    def __init__(
        self, beat: Callable[[], object], timeout: float, stacks: Stacks
    ) -> None:
        self._beat = beat
        self._period = period(timeout)
        self._stacks = stacks
        self._next_turn: asyncio.TimerHandle

    @contextlib.contextmanager
    def beating(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Beat from now until the block is left; the loop may turn before and after."""

        def turn() -> None:
            self._next_turn = loop.call_later(self._period, turn)
            self._beat()
            self._stacks.follow()

        turn()
        try:
            yield
        finally:
            self._next_turn.cancel()

    def end_by(self, deadline: float, now: float) -> None:
        """Dump the stacks and end the process with ``ABORTED`` at *deadline*.

        For a worker that leaves: a thread of the app that never returns would hold it
        for ever at the interpreter's exit, where no loop turns and, on a reload, the
        arbiter does not kill. Both arguments are seconds of the loop's clock.
        """
        self._stacks.exit_in(max(deadline - now, 0.01))


def clock() -> float:
    """Return seconds on the clock that all processes of a machine share."""
    return time.monotonic()


def orphaned(arbiter_pid: int) -> bool:
    """Whether the arbiter that forked this process is gone."""
    return os.getppid() != arbiter_pid
