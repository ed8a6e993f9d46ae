"""Life signs of a worker, and what is left to read when they stop.

One rule: a beat is a callback of the event loop. While the loop turns the worker
lives, through a slow startup, a long drain and a slow shutdown; when it does not turn,
the arbiter's ``timeout`` runs, and the stacks are on paper before the worker dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import io
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

LONGEST_PERIOD = 1.0  # seconds; the arbiter looks once a second
BEATS_PER_TIMEOUT = 3  # so that two late beats in a row are not taken for a hang


def period(timeout: float) -> float:
    """Return the seconds between two beats for gunicorn's ``timeout`` (0: none)."""
    if timeout <= 0:
        return LONGEST_PERIOD
    return min(LONGEST_PERIOD, timeout / BEATS_PER_TIMEOUT)


class Heartbeat:
    """Calls *beat* on the loop once a period, and dumps the stacks when it cannot.

    The dump is armed with ``faulthandler.dump_traceback_later``, which is a C thread:
    it also works while C code holds the interpreter and no Python handler can run. It
    fires after exactly *timeout* seconds without a beat, which is before the arbiter's
    SIGABRT, and so before the SIGKILL that may follow within milliseconds of it.

    *beat*: called on the event loop, must not block.
    *timeout*: gunicorn's ``timeout``, seconds; 0 for no limit.
    *error_fd*: returns the descriptor of the error log; asked on every beat, because
    USR1 reopens it.
    """

    def __init__(
        self,
        beat: Callable[[], object],
        *,
        timeout: float,
        error_fd: Callable[[], int],
    ) -> None:
        self._beat = beat
        self._timeout = timeout
        self._period = period(timeout)
        self._error_fd = error_fd
        self._deadline: float | None = None
        self._next_turn: asyncio.TimerHandle

    @contextlib.contextmanager
    def beating(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Beat from now until the block is left; the loop may turn before and after."""

        def turn() -> None:
            self._next_turn = loop.call_later(self._period, turn)
            self._beat()
            self._arm(loop.time())

        turn()
        try:
            yield
        finally:
            self._next_turn.cancel()
            if self._deadline is None:
                faulthandler.cancel_dump_traceback_later()

    def end_by(self, deadline: float, now: float) -> None:
        """Dump the stacks and end the process with ``ABORTED`` at *deadline*.

        For a worker that was told to leave: a thread of the app that never returns
        would hold it for ever at the interpreter's exit, when no loop turns and, on a
        reload, no arbiter kills. Both in seconds of the loop's clock.
        """
        self._deadline = deadline
        self._arm(now)

    def _arm(self, now: float) -> None:
        if self._deadline is not None:
            left = max(self._deadline - now, 0.01)
            faulthandler.dump_traceback_later(left, exit=True, file=self._error_fd())
        elif self._timeout > 0:
            faulthandler.dump_traceback_later(self._timeout, file=self._error_fd())


def clock() -> float:
    """Return seconds on the clock that all processes of a machine share."""
    return time.monotonic()


def orphaned(arbiter_pid: int) -> bool:
    """Whether the arbiter that forked this process is gone."""
    return os.getppid() != arbiter_pid


def describe_stacks(loop: asyncio.AbstractEventLoop | None) -> str:
    """Return the stacks of all threads and of *loop*'s tasks, for the error log.

    Works inside a signal handler while the loop is blocked.
    """
    report = io.StringIO()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001  documented name
        report.write(f"Thread {names.get(ident, ident)}:\n")
        traceback.print_stack(frame, file=report)
    if loop is not None:
        for task in asyncio.all_tasks(loop):
            report.write(f"{task!r}:\n")
            report.writelines(_stack(task, asyncio.current_task(loop)))
    return report.getvalue()


def _stack(task: asyncio.Task[Any], current: asyncio.Task[Any] | None) -> list[str]:
    """Format the stack of *task*, down to what it awaits.

    ``Task.print_stack`` shows the outermost coroutine only, which is the server's.
    """
    if task is current:
        return ["  runs, on the stack of its thread above\n"]
    frames = []
    waiting: Any = task.get_coro()
    while frame := getattr(waiting, "cr_frame", getattr(waiting, "gi_frame", None)):
        frames.append((frame, frame.f_lineno))
        waiting = getattr(waiting, "cr_await", getattr(waiting, "gi_yieldfrom", None))
    return traceback.StackSummary.extract(iter(frames)).format()
