"""How many CPUs this process may use.

``os.cpu_count()`` counts the machine's. A container gets fewer in one of two ways: an
affinity mask (``cpuset``, ``taskset``) or a quota of CPU time per period (``--cpus``,
Kubernetes' ``limits.cpu``).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from .cgroups import PROC, groups, read


def usable_cpus(proc: Path = PROC) -> int:
    """Return the number of CPUs for which a worker each makes sense; at least 1.

    A fraction of a CPU counts as one more: only another process could use that time.
    *proc*: where ``cgroup`` and ``mountinfo`` of the process are read.
    """
    quota = min(_quotas(proc), default=math.inf)
    return max(1, min(_affinity(), math.ceil(min(quota, 2**31))))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS has neither a mask nor cgroups


def _quotas(proc: Path) -> Iterator[float]:
    """Yield, in CPUs, every quota in force on the process."""
    for group, is_v2 in groups("cpu", proc):
        quota = _v2(group) if is_v2 else _v1(group)
        if quota is not None:
            yield quota


def _v2(group: Path) -> float | None:
    """cpu.max: "QUOTA PERIOD" in microseconds, QUOTA "max" for none."""
    quota, _, period = read(group / "cpu.max").partition(" ")
    return None if quota in ("", "max") else int(quota) / int(period or 100_000)


def _v1(group: Path) -> float | None:
    """cpu.cfs_quota_us and cpu.cfs_period_us; a quota of -1 for none."""
    quota = int(read(group / "cpu.cfs_quota_us") or -1)
    return None if quota <= 0 else quota / int(read(group / "cpu.cfs_period_us"))
