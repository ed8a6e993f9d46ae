"""What a worker counts of itself, besides requests: boots, CPU time, collections.

The rule: a count is one number that only grows, and every time is in nanoseconds. So
`ledger` can add the counts of workers that come and go.
"""

from __future__ import annotations

import gc
import os
import resource
import time
from enum import IntEnum
from typing import Any

OPEN_FILES = "/proc/self/fd"
GENERATIONS = 3  # of the garbage collector


class Count(IntEnum):
    """Which word of the counts holds what."""

    BOOTS = 0  # workers that came to serve
    BOOT_TIME = 1
    CPU_TIME = 2
    STALLS = 3
    STALL_TIME = 4
    ACCEPTED = 5  # connections
    FULL = 6  # pauses in accepting, at `worker_connections`
    STARVED = 7  # pauses in accepting, for want of a descriptor or of memory
    COLLECTIONS = 8  # and the words behind it, one for each generation
    COLLECTION_TIME = COLLECTIONS + GENERATIONS  # likewise


SIZE = Count.COLLECTION_TIME + GENERATIONS


class Counters:
    """The counts of one worker; made in it, after the fork."""

    def __init__(self) -> None:
        self.counts = [0] * SIZE
        self._began = 0
        gc.callbacks.append(self._collected)

    def serve(self, boot_seconds: float) -> None:
        """Count a boot."""
        self.counts[Count.BOOTS] += 1
        self.counts[Count.BOOT_TIME] += int(boot_seconds * 1e9)

    def _collected(self, phase: str, info: dict[str, Any]) -> None:
        """Count a collection; Python calls this before and after each, in C code's way.

        Not in the collector's own figures: those have no times.
        """
        if phase == "start":
            self._began = time.perf_counter_ns()
            return
        counts, generation = self.counts, info["generation"]
        counts[Count.COLLECTIONS + generation] += 1
        passed = time.perf_counter_ns() - self._began
        counts[Count.COLLECTION_TIME + generation] += passed


def open_descriptors() -> int:
    """Return how many descriptors this process has open; 0 if unknown."""
    try:
        # Linux 6.2 and later answer at once; before, the size is 0.
        return os.stat(OPEN_FILES).st_size or len(os.listdir(OPEN_FILES)) - 1  # noqa: PTH116, PTH208
    except OSError:
        return 0


def most_descriptors() -> int:
    """Return how many it may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
