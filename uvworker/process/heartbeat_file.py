"""How long ago a worker sent its last heartbeat, as the arbiter measures it.

gunicorn's arbiter looks about once a second, and kills a worker whose last heartbeat is
older than ``timeout``. After a pause of all processes (a frozen container, a snapshot,
a stopped process group) it looks before any worker could send one, and would kill them
all. The rule: only time between looks that the arbiter makes on schedule counts.

All of this runs in the arbiter; only `HeartbeatFile.notify` runs in the worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

IN_TIME = 1.1  # seconds between two looks: the arbiter sleeps for one, then works
LATE_SHARE = 0.1  # of ``timeout``, for a look that is not in time
ABORT_TIME = 1.0  # seconds between ABRT and KILL, for stacks and hooks; the death of a
# sibling wakes the arbiter, which would send KILL at once


class WorkerTmp(Protocol):
    """gunicorn's ``WorkerTmp``: a file whose ``mtime`` is the last heartbeat."""

    def notify(self) -> None:
        """Send a heartbeat."""

    def last_update(self) -> float:
        """Return when the last one came; before the first, the time of day."""

    def fileno(self) -> int:
        """Return the descriptor of the file."""

    def close(self) -> None:
        """Close the file."""


class HeartbeatFile:
    """One worker's ``tmp``, which gunicorn asks for the time of the last heartbeat.

    *timeout*: gunicorn's, seconds; 0 for none.
    *aborted*: whether the arbiter has sent the worker ABRT.
    """

    def __init__(
        self, signs: WorkerTmp, timeout: float, aborted: Callable[[], bool]
    ) -> None:
        self._timeout = timeout
        self._aborted = aborted
        self._signs = signs
        self.notify, self.fileno, self.close = signs.notify, signs.fileno, signs.close
        self._last_sign = 0.0
        self._silence = 0.0
        self._looked_at = time.monotonic()
        self._aborted_at = 0.0

    def last_update(self) -> float:
        """Return ``time.monotonic()`` less the silence.

        Raises ``ValueError`` before the first heartbeat: gunicorn then does not kill
        the worker, and ``gunicornc`` shows no figure.
        """
        now, sign = time.monotonic(), self._signs.last_update()
        passed = self._passed(now)
        if sign > now:  # the file is new: this is its time of creation
            raise ValueError("the worker sent no heartbeat yet")
        before = self._silence if sign == self._last_sign else 0.0
        self._last_sign = sign
        self._silence = min(now - sign, before + passed)
        if self._is_aborting(now):
            return now - self._timeout
        return now - self._silence

    def _passed(self, now: float) -> float:
        """Return the seconds since the last look that count.

        After a late look only a few, because the arbiter did not run either. Not none,
        because an arbiter that is late at every look must still kill in the end.
        """
        passed, self._looked_at = now - self._looked_at, now
        return passed if passed <= IN_TIME else min(IN_TIME, self._timeout * LATE_SHARE)

    def _is_aborting(self, now: float) -> bool:
        if not self._aborted() or self._silence <= self._timeout:
            return False
        self._aborted_at = self._aborted_at or now
        return now - self._aborted_at < ABORT_TIME
