"""The memory that a process may use, with the kernel's files as containers see them."""

from __future__ import annotations

from pathlib import Path

import pytest

from uvworker.machine.shortages import memory_limit

V2 = ("0::/app\n", "30 23 0:26 / {mount} rw - cgroup2 cgroup2 rw\n", "memory.max")
V1 = (
    "7:memory:/app\n",
    "31 23 0:29 / {mount} rw - cgroup cgroup rw,memory\n",
    "memory.limit_in_bytes",
)


@pytest.mark.parametrize(
    ("version", "root", "app", "limit"),
    [
        (V2, "max", "1000", 1000),
        (V2, "500", "1000", 500),
        (V2, "max", "max", None),
        (V1, "9223372036854771712", "1000", 1000),
        (V1, "9223372036854771712", "9223372036854771712", None),
    ],
)
def test_the_lowest_limit_of_all_groups_counts(
    tmp_path: Path,
    version: tuple[str, str, str],
    root: str,
    app: str,
    limit: int | None,
) -> None:
    membership, mount, name = version
    (tmp_path / "cgroup").write_text(membership)
    (tmp_path / "mountinfo").write_text(mount.format(mount=tmp_path / "groups"))
    (tmp_path / "groups" / "app").mkdir(parents=True)
    (tmp_path / "groups" / name).write_text(root + "\n")
    (tmp_path / "groups" / "app" / name).write_text(app + "\n")
    assert memory_limit(tmp_path) == limit


def test_without_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None
