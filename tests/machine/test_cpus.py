"""The CPUs that a process may use, with the kernel's files as containers see them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from uvworker.machine.cpus import usable_cpus

ALL = len(os.sched_getaffinity(0))

V2 = "30 23 0:26 {root} {mount} rw,nosuid - cgroup2 cgroup2 rw\n"
V1 = "31 23 0:29 {root} {mount} rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n"


def world(tmp_path: Path, memberships: str, mountinfo: str, **files: str) -> Path:
    """Lay out what /proc/self and a cgroup mount would show."""
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(memberships)
    (proc / "mountinfo").write_text(mountinfo)
    for name, text in files.items():
        path = tmp_path / "cg" / name.replace("__", "/").replace("cpu_", "cpu.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return proc


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [
        ("50000 100000", 1),
        ("100000 100000", 1),
        ("150000 100000", min(2, ALL)),
        ("max 100000", ALL),
        ("9900000", ALL),
    ],
)
def test_a_v2_quota_counts(tmp_path: Path, quota: str, cpus: int) -> None:
    mounts = V2.format(root="/", mount=tmp_path / "cg")
    proc = world(tmp_path, "0::/\n", mounts, cpu_max=quota)
    assert usable_cpus(proc) == cpus


def test_the_tightest_group_above_counts(tmp_path: Path) -> None:
    mounts = V2.format(root="/", mount=tmp_path / "cg")
    proc = world(
        tmp_path,
        "0::/pod/app\n",
        mounts,
        pod__cpu_max="100000 100000",
        pod__app__cpu_max="max 100000",
    )
    assert usable_cpus(proc) == 1


def test_a_v1_quota_counts_below_a_mounted_root(tmp_path: Path) -> None:
    """Docker without a cgroup namespace: the path is the host's, the mount ours."""
    mounts = V1.format(root="/docker/abc", mount=tmp_path / "cg")
    proc = world(
        tmp_path,
        "4:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n",
        mounts,
        cpu_cfs_quota_us="100000",
        cpu_cfs_period_us="100000",
    )
    assert usable_cpus(proc) == 1


def test_no_cgroups_means_the_affinity_mask(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == ALL


def test_the_affinity_mask_counts() -> None:
    """Asked in a process of its own, confined to one CPU as `taskset` does."""
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "from uvworker.machine.cpus import usable_cpus; print(usable_cpus())"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert answer.stdout == "1\n"
