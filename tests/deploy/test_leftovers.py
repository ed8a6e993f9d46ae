"""What a killed run leaves is gone before the next one begins."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .leftovers import FOLDERS, NETWORKS, remove
from .machines import HIERARCHIES, need, run

NAME = "uvt-left"


def test_processes_namespace_groups_and_folder_are_removed() -> None:
    need("ip", "nsenter")
    run("ip", "netns", "add", NAME)
    (FOLDERS / f"{NAME}1").mkdir()
    groups = [hierarchy / NAME for hierarchy in HIERARCHIES]
    for group in groups:
        (group / "inner").mkdir(parents=True)
    sleep = ("sleep", "infinity")
    left = [subprocess.Popen(["nsenter", f"--net={NETWORKS / NAME}", *sleep])]
    for group in groups:
        process = subprocess.Popen(sleep)
        (group / "inner" / "cgroup.procs").write_text(str(process.pid))
        left.append(process)
    remove(NAME)
    assert {process.wait() for process in left} == {-9}
    paths = [NETWORKS / NAME, FOLDERS / f"{NAME}1", *groups]
    assert not any(map(Path.exists, paths))
