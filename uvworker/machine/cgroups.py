"""The control groups of a process, in which a container's limits are.

cgroups v1 and v2 write a limit in different files. The lowest of all groups from the
process up to the root counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROC = Path("/proc/self")


def groups(controller: str, proc: Path = PROC) -> Iterator[tuple[Path, bool]]:
    """Yield the directories of the process's groups, and whether each is v2.

    *controller*: ``cpu`` or ``memory``.
    *proc*: where ``cgroup`` and ``mountinfo`` of the process are read.
    """
    paths = dict(_memberships(controller, proc))
    for root, mount_point, is_v2 in _mounts(controller, proc):
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


def read(path: Path) -> str:
    """Return what a file of a group holds; an empty string if there is none."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _memberships(controller: str, proc: Path) -> Iterator[tuple[bool, str]]:
    """Yield (is v2, path) from /proc/PID/cgroup: "ID:CONTROLLERS:PATH" lines."""
    for line in read(proc / "cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            yield True, path
        elif controller in controllers.split(","):
            yield False, path


def _mounts(controller: str, proc: Path) -> Iterator[tuple[str, Path, bool]]:
    """Yield (root, mount point, is v2) of the hierarchies, from mountinfo."""
    for line in read(proc / "mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        root, mount_point = fields.split()[3:5]
        kind, _, options = rest.split()[:3]
        if kind == "cgroup2":
            yield root, Path(mount_point), True
        elif kind == "cgroup" and controller in options.split(","):
            yield root, Path(mount_point), False
