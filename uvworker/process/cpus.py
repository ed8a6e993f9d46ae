"""How many CPUs this process may really use.

``os.cpu_count()`` is the machine's. A container is given less in one of two ways: an
affinity mask (``cpuset``, ``taskset``) or a quota of CPU time per period (``--cpus``,
Kubernetes' ``limits.cpu``), which cgroups v1 and v2 write down differently. The
tightest of all groups from the process up to the root counts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROC = Path("/proc/self")


def usable_cpus(proc: Path = PROC) -> int:
    """Return the number of CPUs for which a worker each makes sense; at least 1.

    A fraction of a CPU counts as one more: it is time that only another process could
    use. *proc*: where ``cgroup`` and ``mountinfo`` of the process are read.
    """
    quota = min(_quotas(proc), default=math.inf)
    return max(1, min(_affinity(), math.ceil(min(quota, 2**31))))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS has neither a mask nor cgroups


def _quotas(proc: Path) -> Iterator[float]:
    """Yield, in CPUs, every quota in force on the process."""
    for group, is_v2 in _groups(proc):
        quota = _v2(group) if is_v2 else _v1(group)
        if quota is not None:
            yield quota


def _v2(group: Path) -> float | None:
    """cpu.max: "QUOTA PERIOD" in microseconds, QUOTA "max" for none."""
    quota, _, period = _read(group / "cpu.max").partition(" ")
    return None if quota in ("", "max") else int(quota) / int(period or 100_000)


def _v1(group: Path) -> float | None:
    """cpu.cfs_quota_us and cpu.cfs_period_us; a quota of -1 for none."""
    quota = int(_read(group / "cpu.cfs_quota_us") or -1)
    return None if quota <= 0 else quota / int(_read(group / "cpu.cfs_period_us"))


def _groups(proc: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the directories of the process's CPU groups, and whether each is v2."""
    paths = dict(_memberships(proc))
    for root, mount_point, is_v2 in _mounts(proc):
        if is_v2 not in paths:
            continue
        # A container without a cgroup namespace sees the host's path, and a mount
        # whose root is that path: what lies below the mount is the difference.
        path = PurePosixPath(paths[is_v2])
        below = path.relative_to(root) if path.is_relative_to(root) else "."
        group = mount_point / below
        while group.is_relative_to(mount_point):
            yield group, is_v2
            group = group.parent


def _memberships(proc: Path) -> Iterator[tuple[bool, str]]:
    """Yield (is v2, path) from /proc/PID/cgroup: "ID:CONTROLLERS:PATH" lines."""
    for line in _read(proc / "cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            yield True, path
        elif "cpu" in controllers.split(","):
            yield False, path


def _mounts(proc: Path) -> Iterator[tuple[str, Path, bool]]:
    """Yield (root, mount point, is v2) of the CPU hierarchies, from mountinfo."""
    for line in _read(proc / "mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        root, mount_point = fields.split()[3:5]
        kind, _, options = rest.split()[:3]
        if kind == "cgroup2":
            yield root, Path(mount_point), True
        elif kind == "cgroup" and "cpu" in options.split(","):
            yield root, Path(mount_point), False


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
