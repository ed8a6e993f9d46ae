"""Warnings about an event loop that is blocked, from a thread while it is blocked.

gunicorn's `timeout` finds a loop that is blocked for good. Code that blocks it for
seconds, again and again, makes a service slow and leaves no trace. The rule: a warning
shows where the loop is blocked, at that moment; a second line says for how long.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from types import FrameType
from typing import Any

from . import attribution, stacks

LOOKS = 4  # in the seconds after which a stall is reported
BETWEEN_REPORTS = 60.0  # seconds; a service may stall at each request


class StallWatch:
    """Watches one loop from a thread of its own; made on the loop's thread.

    *seconds*: how long the loop may not turn before it is reported.
    *log*: gunicorn's logger.
    *stalls*: how many there were, the present one too.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, *, log: Any
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._log = log
        self._watched = threading.get_ident()
        self._turned = True  # since it was last asked to
        self._asked_at = 0.0
        self._noticed = self._reported = False  # of the present stall
        self._quiet_until = 0.0
        self._left_out = 0
        self.stalls = 0
        self.stall_time = 0  # nanoseconds in all, of those that are over
        self._over = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, name="uvworker-stalls", daemon=True
        )

    def start(self) -> None:
        """Start to watch; a stall before the worker serves delays no request."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; call it before the loop is closed."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        looked_at = time.monotonic()
        while not self._over.wait(self._seconds / LOOKS):
            before, looked_at = looked_at, time.monotonic()
            stalled = looked_at - self._asked_at
            if self._turned:
                self._ask(stalled)
            elif looked_at - before > self._seconds:
                self._asked_at = looked_at  # the whole process stood still
            elif stalled >= self._seconds and not self._noticed:
                self._notice(stalled)

    def _ask(self, stalled: float) -> None:
        if self._noticed:
            self.stall_time += int(stalled * 1e9)
        if self._reported:
            self._log.warning("The event loop turns again after %.1f s.", stalled)
        self._noticed = self._reported = self._turned = False
        self._asked_at = time.monotonic()
        self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._turned = True

    def _notice(self, stalled: float) -> None:
        self._noticed = True
        self.stalls += 1
        now = time.monotonic()
        if now < self._quiet_until:
            self._left_out += 1
            return
        self._report(stalled)
        self._reported = True
        self._quiet_until, self._left_out = now + BETWEEN_REPORTS, 0

    def _report(self, stalled: float) -> None:
        others = f" {self._left_out} stalls before it are not reported."
        frame = sys._current_frames().get(self._watched)  # noqa: SLF001  documented
        self._log.warning(
            "The event loop has not turned for %.1f s%s.%s It is here:\n%s",
            stalled,
            _named(asyncio.current_task(self._loop), frame),
            others if self._left_out else "",
            stacks.render(stacks.of_frame(frame)),
        )


def _named(task: asyncio.Task[Any] | None, frame: FrameType | None) -> str:
    """Return the request and the task that a thread runs; *frame*: its innermost."""
    if task is None:
        return ""
    answer = attribution.answering(task)
    scope = answer.scope if answer else attribution.scope_on(frame)
    request = f", in {attribution.name(scope)}" if scope else ""
    return f"{request}, in task {task.get_name()}"
