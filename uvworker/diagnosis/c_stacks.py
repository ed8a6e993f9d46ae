"""Stacks of a worker whose interpreter C code holds, written by `faulthandler`.

No Python code runs in such a worker, in none of its threads. But `faulthandler` has a
signal handler in C, which writes the stacks of all threads to a file in memory. The
arbiter makes the file and all workers inherit it; a sibling sends the signal, and
reads.

The rule: the signal goes only to a worker that has recorded that it handles it: by
default, it kills.
"""

from __future__ import annotations

import asyncio
import faulthandler
import fcntl
import os
import signal
import sys
import time
from contextlib import suppress

from ..shared_memory.scoreboard import Slot, WorkerView

AVAILABLE = sys.platform == "linux" and hasattr(os, "memfd_create")
SIGNAL = signal.SIGRTMIN + 7 if AVAILABLE else 0  # which nothing else is known to use

WRITTEN = 2.0  # seconds until a worker without an answer is given up
REST = 0.05  # seconds in which an answer does not grow: it is complete
OTHERS = 5.0  # seconds for the questions of other workers


class StackFile:
    """The file. Construct it in the arbiter, before the fork."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("uvworker-stacks") if AVAILABLE else -1
        self._one = asyncio.Lock()

    def answer(self, slot: Slot) -> None:
        """Write this process's stacks at each `SIGNAL` from now on; in the worker."""
        if AVAILABLE:
            faulthandler.register(SIGNAL, file=self._descriptor, chain=False)
            slot.writes_stacks = True

    async def ask(self, worker: WorkerView) -> bytes:
        """Return the stacks of *worker*'s threads; empty if it does not write them."""
        if not worker.writes_stacks or _is_stopped(worker.pid):
            return b""
        async with self._one:
            if not await self._lock():
                return b""
            try:
                return await self._written(worker.pid)
            finally:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    async def _lock(self) -> bool:
        """Wait until no other worker uses the file; return whether it did."""
        deadline = time.monotonic() + OTHERS
        while time.monotonic() < deadline:
            with suppress(OSError):
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            await asyncio.sleep(REST)
        return False

    async def _written(self, pid: int) -> bytes:
        descriptor, size = self._descriptor, 0
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)  # one position for all processes
        with suppress(OSError):
            os.kill(pid, SIGNAL)
            deadline = time.monotonic() + WRITTEN
            while time.monotonic() < deadline:
                await asyncio.sleep(REST)
                before, size = size, os.fstat(descriptor).st_size
                if size and size == before:
                    break
        return os.pread(descriptor, size, 0)


def _is_stopped(pid: int) -> bool:
    """Whether the process handles no signal now: it would write at another time."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123  no import for it
            return stat.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except OSError:
        return True
