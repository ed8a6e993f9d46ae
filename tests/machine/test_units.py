"""What systemctl prints of a unit, and the unit that a process is in.

Units of a real systemd: `tests/deploy/test_systemd.py`.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from uvworker.machine import units


@pytest.mark.parametrize(
    ("span", "seconds"),
    [
        ("0", 0),
        ("40s", 40),
        ("1min 30s", 90),
        ("2h 500ms", 7200.5),
        ("1w 2d", 777_600),
        ("1month", 2_629_800),
        ("infinity", math.inf),
    ],
)
def test_a_span_of_time_is_read(span: str, seconds: float) -> None:
    assert units.seconds(span) == seconds


@pytest.mark.parametrize(
    ("lines", "unit"),
    [
        ("0::/system.slice/app.service\n", "app.service"),
        (
            "5:pids:/a.service\n1:name=systemd:/system.slice/app.service\n",
            "app.service",
        ),
        ("0::/system.slice/system-app.slice/app@1.service\n", "app@1.service"),
        ("0::/user.slice/user-1.slice/user@1.service/app.slice/shell.scope\n", ""),
        ("0::/system.slice/docker-0123.scope\n", ""),
        ("0::/\n", ""),
        ("", ""),
    ],
)
def test_the_unit_of_a_process_is_that_of_its_group(
    tmp_path: Path, lines: str, unit: str
) -> None:
    (tmp_path / "cgroup").write_text(lines)
    assert units.own(tmp_path) == unit


def test_without_systemd_no_unit_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert units.stop_timeout("app.service") is None
