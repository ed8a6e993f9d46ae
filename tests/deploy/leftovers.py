"""One run of these tests at a time, on a machine that the last one has left clean.

Network namespaces, control groups and folders have names that begin with `PREFIX`. A
run that was killed leaves them with the processes inside; the next one removes them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.tools.service import alive, wait_for

from .machines import CGROUPS, remove_group, run

PREFIX = "uvt-"
LOCK = Path("/run/uvworker-deploy.lock")
NETWORKS = Path("/run/netns")
FOLDERS = Path("/var/tmp")


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other run is left, and remove what a killed one has left."""
    with LOCK.open("w") as lock:  # which the kernel takes from a process that ends
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove(PREFIX)
        yield


def remove(prefix: str) -> None:
    """Remove everything whose name begins with *prefix*, and its processes."""
    networks = [*NETWORKS.glob(f"{prefix}*")]
    groups = [*CGROUPS.glob(f"*/{prefix}*")]
    pids = {pid for path in networks for pid in _in_network(path)}
    pids |= {pid for path in groups for pid in _in_group(path)}
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(map(alive, pids)), f"the end of {pids}")
    for network in networks:
        run("ip", "netns", "del", network.name)
    for group in groups:
        remove_group(group)
    for folder in FOLDERS.glob(f"{prefix}*"):
        shutil.rmtree(folder)


def _in_network(path: Path) -> list[int]:
    return [int(pid) for pid in run("ip", "netns", "pids", path.name).split()]


def _in_group(path: Path) -> list[int]:
    lists = [procs.read_text() for procs in path.rglob("cgroup.procs")]
    return [int(pid) for text in lists for pid in text.split()]
