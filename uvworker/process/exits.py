"""Exit codes, and what the arbiter does on each.

An exit code is all that a dead worker can tell the arbiter (``reap_workers``), so
every way out of a worker ends in exactly one of these.
"""

from __future__ import annotations

import os
from typing import NoReturn

CLEAN = 0  # drained, recycled or told to stop: the arbiter keeps the number of workers
ABORTED = 1  # timed out, or held past its deadline: logged, and replaced at once
BOOT_FAILED = 3  # Arbiter.WORKER_BOOT_ERROR: the arbiter halts the whole service
APP_NOT_LOADED = 4  # Arbiter.APP_LOAD_ERROR: the same, with another reason


class HaltToken:
    """The right to halt the service by a failed boot, which one worker can take.

    When several workers exit with ``BOOT_FAILED`` or ``APP_NOT_LOADED``, the second
    one reaches the arbiter while it is already halting for the first, and the service
    ends with a traceback and exit code 1. A byte in a pipe is read by one process
    only, so exactly one worker fails with the code that means it.

    Made in the arbiter, before the first fork; taken in workers.
    """

    def __init__(self) -> None:
        self._read, write = os.pipe()
        os.write(write, b"!")
        os.close(write)

    def take(self) -> bool:
        """Whether this process is the first to ask, among all that inherited it."""
        return os.read(self._read, 1) == b"!"  # to all others: end of file


class Leaving(SystemExit):
    """The worker's own decision to end, with one of the codes above.

    A class of its own, because an app that calls ``sys.exit()`` while it is imported
    or started has failed to boot, whatever code it chose.
    """


def leave(code: int) -> NoReturn:
    """Raise :class:`Leaving`; as a function, for callbacks."""
    raise Leaving(code)
