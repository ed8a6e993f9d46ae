"""A worker's boot, from the fork to the first connection, and what a failure does.

The rule: a failed boot halts the service if no worker serves, as gunicorn's own workers
do. While siblings serve, it is logged and tried again after a pause.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from ..diagnosis import stacks
from ..shared_memory.scoreboard import Scoreboard, Slot
from . import exits
from .handover import pause_after_failed_boot, pause_between_boots
from .signals import kept_for_main_thread

# Seconds that a worker waits for the TERM of a halt that a sibling has caused. It runs
# out only if that sibling was killed before it could exit.
HALT_WAIT = 10.0

SLICES = 10  # of boot_timeout; a pause of all processes takes one of them at most


class BootTimeout(Exception):  # noqa: N818  what happened
    """The worker did not serve within ``boot_timeout``."""


class Boot:
    """One worker's boot; made in the arbiter, used after the fork.

    *token*: shared by all workers of the arbiter.
    *plain*: exceptions whose message is enough; they are logged without a traceback.
    *wait*: sleeps for so many seconds, while no loop runs.
    *report*: called with why the boot failed.
    *log*: gunicorn's logger.
    """

    def __init__(
        self,
        board: Scoreboard,
        slot: Slot,
        token: exits.HaltToken,
        *,
        plain: tuple[type[BaseException], ...],
        wait: Callable[[float], object],
        report: Callable[[str], object],
        log: Any,
    ) -> None:
        self._board = board
        self._slot = slot
        self._token = token
        self._plain = (*plain, BootTimeout)
        self._wait = wait
        self._report = report
        self._log = log
        self._over = threading.Event()

    def back_off(self) -> None:
        """Wait if the worker before this one was killed or crashed while it booted.

        After ``os._exit()``, a crash in C code or the out-of-memory killer, the arbiter
        sees no failed boot: it forks the next worker at once, for ever.
        """
        me = next(w for w in self._board.workers() if w.id == self._slot.id)
        if me.failures:  # one that failed in Python has waited before it exited
            end = me.failed_at + pause_between_boots(me.failures)
            if (left := end - time.monotonic()) > 0:
                self._log.error(
                    "The worker before this one died while it booted; "
                    "worker %d boots in %.0f s.",
                    self._slot.id,
                    left,
                )
                self._wait(left)

    def watch(self, timeout: float | None) -> None:
        """Fail the boot if it takes longer than *timeout* seconds from now."""
        if timeout is not None:
            thread = threading.Thread(target=self._watch, args=[timeout], daemon=True)
            with kept_for_main_thread():
                thread.start()

    def done(self) -> None:
        """Publish that this worker serves."""
        self._over.set()
        self._slot.serve()

    def fail(self, failure: BaseException, code: int) -> NoReturn:
        """Log the failure, wait or halt, and raise :class:`~.exits.Leaving`.

        *code*: the exit code that makes the arbiter halt, if no sibling serves.
        """
        exits.leave(self._end(failure, code))

    def _watch(self, timeout: float) -> None:
        """Fail from a thread: the main thread is where the boot hangs."""
        if any(self._over.wait(timeout / SLICES) for _ in range(SLICES)):
            return
        failure = BootTimeout(
            f"it did not serve within boot_timeout, {timeout:g} s. It is here:\n"
            + stacks.describe(None)
        )
        os._exit(self._end(failure, exits.BOOT_FAILED))

    def _end(self, failure: BaseException, code: int) -> int:
        """Return the exit code, after a pause if siblings serve."""
        self._over.set()
        reason = self._reason(failure).partition("\n")[0]
        self._report(f"cannot start: {reason}")  # before the state says that it failed
        self._slot.fail(time.monotonic())
        me = next(w for w in self._board.workers() if w.id == self._slot.id)
        pause = pause_after_failed_boot(me, self._board.siblings(self._slot))
        if pause is None:
            return self._halt(failure, code)
        self._explain(failure)
        self._log.error("Other workers serve on; the next attempt is in %d s.", pause)
        self._wait(pause)
        return exits.ABORTED

    def _halt(self, failure: BaseException, code: int) -> int:
        """Return *code* in one worker only, which also logs the failure."""
        if self._token.take():
            self._explain(failure)
            return code
        self._wait(HALT_WAIT)  # until TERM, unless the sibling was killed
        self._token.give_back()
        return exits.CLEAN

    def _explain(self, failure: BaseException) -> None:
        cause = failure.__cause__ if isinstance(failure, self._plain) else failure
        reason = self._reason(failure)
        self._log.error(
            "Worker %d cannot start: %s", self._slot.id, reason, exc_info=cause
        )

    def _reason(self, failure: BaseException) -> str:
        return str(failure) if isinstance(failure, self._plain) else repr(failure)
