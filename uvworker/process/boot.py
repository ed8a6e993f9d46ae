"""The way from the fork to the first connection, and what becomes of one that fails.

A failed boot halts the service if nobody serves, as gunicorn has it; beside siblings
that do, it is one worker's trouble: said, and tried again after a pause.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from . import exits
from .handover import pause_after_failed_boot, pause_between_boots
from .heartbeat import describe_stacks
from .scoreboard import Scoreboard, Slot

# Seconds that a worker waits to be stopped because a sibling failed first. A TERM ends
# the wait at once; only a sibling that came to grief itself lets it run out.
HALT_WAIT = 10.0


class BootTimeout(Exception):  # noqa: N818  what happened
    """The worker did not serve within ``boot_timeout``."""


class Boot:
    """One worker's boot; made in the arbiter, used after the fork.

    *token*: shared by all workers of the arbiter.
    *plain*: exceptions that explain themselves, and need no traceback of ours.
    *wait*: called with seconds to wait where no loop turns.
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
        log: Any,
    ) -> None:
        self._board = board
        self._slot = slot
        self._token = token
        self._plain = (*plain, BootTimeout)
        self._wait = wait
        self._log = log
        self._timer: threading.Timer | None = None

    def hold(self) -> None:
        """Wait out the pause after a worker that died at its boot, without a word.

        Of ``os._exit()``, a crash of C code, the kernel's out-of-memory killer the
        arbiter makes no failed boot: it forks the next one at once, for ever.
        """
        me = next(w for w in self._board.workers() if w.id == self._slot.id)
        if me.failures:  # one that could speak has waited before it exited
            end = me.failed_at + pause_between_boots(me.failures)
            if (left := end - time.monotonic()) > 0:
                self._log.error(
                    "The worker before this one died at its boot; trying in %.0f s.",
                    left,
                )
                self._wait(left)

    def watch(self, timeout: float | None) -> None:
        """Let the boot fail if it takes longer than *timeout* seconds from now."""
        if timeout is not None:
            self._timer = threading.Timer(timeout, self._give_up, [timeout])
            self._timer.daemon = True
            self._timer.start()

    def done(self) -> None:
        """Tell the siblings that this worker serves."""
        if self._timer is not None:
            self._timer.cancel()
        self._slot.serve()

    def fail(self, failure: BaseException, code: int) -> NoReturn:
        """Say why, and raise :class:`~.exits.Leaving`.

        *code*: what makes the arbiter halt, if that is what has to happen.
        """
        exits.leave(self._end(failure, code))

    def _give_up(self, timeout: float) -> None:
        """Fail from the timer's thread: the main thread is where the boot hangs."""
        failure = BootTimeout(
            f"it does not serve after boot_timeout, {timeout:g} s:\n"
            + describe_stacks(None)
        )
        os._exit(self._end(failure, exits.BOOT_FAILED))

    def _end(self, failure: BaseException, code: int) -> int:
        """Return the exit code, after a pause if siblings serve."""
        if self._timer is not None:
            self._timer.cancel()
        self._slot.fail(time.monotonic())
        me = next(w for w in self._board.workers() if w.id == self._slot.id)
        pause = pause_after_failed_boot(me, self._board.siblings(self._slot))
        if pause is None:
            return self._halt(failure, code)
        self._explain(failure)
        self._log.error("Siblings serve on; the next attempt is in %d s.", pause)
        self._wait(pause)
        return exits.ABORTED

    def _halt(self, failure: BaseException, code: int) -> int:
        """Return the code that halts to one worker only, which also says why."""
        if self._token.take():
            self._explain(failure)
            return code
        self._wait(HALT_WAIT)  # until TERM, unless the other came to grief
        self._token.give_back()
        return exits.CLEAN

    def _explain(self, failure: BaseException) -> None:
        cause = failure.__cause__ if isinstance(failure, self._plain) else failure
        text = str(failure) if isinstance(failure, self._plain) else repr(failure)
        self._log.error(
            "Worker %d cannot start: %s", self._slot.id, text, exc_info=cause
        )
