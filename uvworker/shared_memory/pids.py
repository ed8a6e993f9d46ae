"""Which pids are living workers of this arbiter.

The rule: a pid counts if it answers ``kill(pid, 0)`` and, where ``/proc`` exists, is a
child of the arbiter and not a zombie: so a reused pid is not mistaken for a worker.
Without ``/proc``, a zombie or a reused pid costs a skipped id, never a shared one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


class Children:
    """The living children of this process, the arbiter; asked in any worker."""

    def __init__(self) -> None:
        self._parent = os.getpid()
        self._proc_is_ours = _proc_is_ours()

    def __contains__(self, pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # a sibling that still runs as root, or another program
        if not self._proc_is_ours:
            return True
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return True  # hidden, or no file descriptor left: the kernel's answer holds
        # After the name, which may hold anything: the state, then the parent's pid.
        state, parent = stat.rpartition(b")")[2].split(maxsplit=2)[:2]
        return int(parent) == self._parent and state not in b"ZX"


def _proc_is_ours() -> bool:
    """Whether ``/proc`` counts pids as this process does, not as another namespace."""
    with suppress(OSError):
        return Path("/proc/self").readlink() == Path(str(os.getpid()))
    return False
