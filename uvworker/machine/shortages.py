"""What a service will run out of, said at its start: before it breaks, and why.

Each function returns a sentence for the log, or an empty string. The rule: a warning
names figures of this service, never a guess; where one is unknown, nothing is said.
"""

from __future__ import annotations

import os
import resource
import tempfile
import threading
from pathlib import Path

from . import cgroups
from .cpus import usable_cpus
from .memory import MEGABYTE, NoMemoryFigure, resident_memory

# Descriptors of a worker beside its connections: logs, listeners, the loop, the app's.
BESIDE = 64
UNLIMITED = 1 << 60  # bytes; v1 writes such a number for no limit
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
MOUNTS = Path("/proc/self/mountinfo")
IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")
PRIVATE = ("Private_Clean:", "Private_Dirty:")


def memory(workers: int, *, preload: bool) -> str:
    """Return what to say if *workers* like this one need more than its cgroup allows.

    *preload*: they share what the arbiter has imported, and only the rest counts twice.
    """
    limit = memory_limit()
    try:
        resident = resident_memory()
    except NoMemoryFigure:
        return ""
    each = _private() if preload else resident
    needed = resident + (workers - 1) * each
    if limit is None or needed <= limit:
        return ""
    return (
        f"{workers} workers like this one, which has {resident // MEGABYTE} MB, need "
        f"{needed // MEGABYTE} MB, but the cgroup allows {limit // MEGABYTE} MB, and "
        "the kernel will kill one of them: start fewer, raise the limit, or share "
        "memory with preload_app."
    )


def descriptors(connections: int | None) -> str:
    """Return what to say if *connections* of a worker need more than it may open.

    *connections*: `worker_connections`; None for as many as there are descriptors.
    """
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if connections is None or allowed == resource.RLIM_INFINITY:
        return ""
    needed = connections + BESIDE
    if needed <= allowed:
        return ""
    return (
        f"worker_connections = {connections} needs some {needed} file descriptors, but "
        f"a worker may open {allowed}: raise the limit (ulimit -n, LimitNOFILE), or a "
        "worker accepts no more than that."
    )


def cpus(workers: int) -> str:
    """Return what to say if there are more *workers* than CPUs for them."""
    usable = usable_cpus()
    if workers <= usable:
        return ""
    return (
        f"workers = {workers}, but this process may use {usable} CPU"
        f"{'s' * (usable != 1)}: one event loop keeps one busy, and more workers only "
        f"add memory. Set WEB_CONCURRENCY={usable}, or raise the quota."
    )


def backlog(length: int, limit: Path = SOMAXCONN) -> str:
    """Return what to say if the kernel makes a queue of *length* shorter."""
    allowed = cgroups.read(limit)
    if not allowed.isdigit() or length <= int(allowed):
        return ""
    return (
        f"backlog = {length}, but net.core.somaxconn is {allowed}, and the kernel cuts "
        "the queue to that: in a burst connections wait for seconds. Set "
        f"net.core.somaxconn={length} (sysctl; in a container: --sysctl)."
    )


def heartbeats(directory: str | None, mounts: Path = MOUNTS) -> str:
    """Return what to say if workers write their life signs to a disk.

    *directory*: `worker_tmp_dir`; None for the temporary directory.
    """
    place = Path(directory or tempfile.gettempdir()).resolve()
    points = {}
    for line in cgroups.read(mounts).splitlines():
        fields, _, rest = line.partition(" - ")
        points[fields.split()[4]] = rest.split()[0]
    kind = next(
        (points[str(p)] for p in (place, *place.parents) if str(p) in points), ""
    )
    if kind in ("", *IN_MEMORY):
        return ""
    return (
        f"Heartbeats are written to {place}, which is on a disk ({kind}): when it "
        "stalls, a healthy worker looks hung, and is killed. Set worker_tmp_dir to "
        "/dev/shm."  # noqa: S108
    )


def threads() -> str:
    """Return what to say if this process, which is about to fork, has threads.

    Only the thread that forks is in the child. A lock that another one holds stays
    locked there for ever.
    """
    names = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
    others = _tasks() - 1 - len(names)
    if others > 0:
        names.append(f"{others} of C code")
    if not names:
        return ""
    return (
        f"The preloaded app has started threads ({', '.join(names)}), which its "
        "workers do not have, and locks that these hold stay locked there: start them "
        "in the lifespan or in post_fork, or do without preload_app."
    )


def memory_limit(proc: Path = cgroups.PROC) -> int | None:
    """Return the bytes that the cgroups of this process allow; None for no limit."""
    limits = []
    for group, is_v2 in cgroups.groups("memory", proc):
        name = "memory.max" if is_v2 else "memory.limit_in_bytes"
        limit = cgroups.read(group / name)
        if limit.isdigit() and int(limit) < UNLIMITED:
            limits.append(int(limit))
    return min(limits, default=None)


def _private() -> int:
    """Return the bytes of this process that no other one shares."""
    lines = cgroups.read(Path("/proc/self/smaps_rollup")).splitlines()
    return sum(int(x.split()[1]) * 1024 for x in lines if x.startswith(PRIVATE))


def _tasks() -> int:
    """Return the number of this process's threads, those of C code included."""
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208  of names only
    except OSError:
        return 0
