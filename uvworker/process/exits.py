"""Exit codes, and what the arbiter does on each.

The arbiter learns nothing else about a worker that has ended (``reap_workers``), so
every way out of a worker ends in exactly one of these codes.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
from typing import NoReturn

CLEAN = 0  # drained, recycled or stopped: the arbiter keeps the number of workers
ABORTED = 1  # timed out, or held past its deadline: logged, and replaced at once
BOOT_FAILED = 3  # Arbiter.WORKER_BOOT_ERROR: the arbiter halts the whole service
APP_NOT_LOADED = 4  # Arbiter.APP_LOAD_ERROR: the same, with another reason

INSIST = 2.0  # seconds for hooks, `atexit` and threads, once a worker exits

# Registered first and so run last: after it the interpreter only frees memory. On a
# busy machine that can take longer than `INSIST`, and the default handlers are back by
# then: the alarm would kill the process, and the exit code would be lost.
atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)


class HaltToken:
    """The right to halt the service by a failed boot, which one worker can take.

    When several workers exit with ``BOOT_FAILED`` or ``APP_NOT_LOADED``, the second
    one reaches the arbiter while it is already halting for the first, and the service
    ends with a traceback and exit code 1. A byte in a pipe is read by one process
    only, so exactly one worker fails with the code that means it.

    Made in the arbiter, before the first fork; used in workers.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        self.give_back()

    def take(self) -> bool:
        """Whether this process now has the token; no other that inherited it does."""
        try:
            return bool(os.read(self._read, 1))
        except BlockingIOError:
            return False

    def give_back(self) -> None:
        """Return the token: the worker that took it did not halt the service.

        All workers that waited for the halt call this; only one byte is written.
        """
        there, _, _ = select.select([self._read], [], [], 0)
        if not there:
            os.write(self._write, b"!")


class Leaving(SystemExit):
    """The worker's own decision to end, with one of the codes above.

    A class of its own, because an app that calls ``sys.exit()`` at its import or its
    startup has failed to boot, whatever the code.
    """


def code_of(failure: BaseException) -> int:
    """Return the exit code of a process that *failure* ends, as Python chooses it."""
    code = failure.code if isinstance(failure, SystemExit) else ABORTED
    if code is None:
        return CLEAN
    return code & 0xFF if isinstance(code, int) else ABORTED


def harmless(code: int) -> int:
    """Return *code*, or `ABORTED` for one by which the arbiter halts the service.

    Those codes mean a failed boot. An app may exit a serving worker with the same.
    """
    return ABORTED if code in (BOOT_FAILED, APP_NOT_LOADED) else code


def leave(code: int) -> NoReturn:
    """Raise :class:`Leaving`, and end the process in ``INSIST`` seconds if that fails.

    The interpreter waits at its exit for the threads that the app left running, and
    the arbiter would wait with it instead of halting. By an alarm rather than by a
    thread of our own: this is also called inside a signal handler, where starting a
    thread may find its locks held by the code that was interrupted. Runs in the
    worker, on the main thread.
    """
    signal.signal(signal.SIGALRM, lambda _signum, _frame: os._exit(code))
    signal.setitimer(signal.ITIMER_REAL, INSIST)
    raise Leaving(code)
