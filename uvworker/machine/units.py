"""How long systemd lets a unit stop, as ``systemctl`` shows it to any user.

Nothing here speaks for the service: `systemd` does.
"""

from __future__ import annotations

import math
import re
import subprocess
from pathlib import Path

from .cgroups import PROC, read

# A line of systemd's own hierarchy, that of v2 or a named one of v1.
SERVICE = re.compile(r"^(?:0|\d+:name=systemd):.*/([^/]+\.service)$", re.MULTILINE)

# systemd.time(7), of which systemctl prints "1min 30s", "1w 2d" or "infinity"
SECONDS = {
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1,
    "min": 60,
    "h": 3_600,
    "d": 86_400,
    "w": 604_800,
    "month": 2_629_800,
    "y": 31_557_600,
}


def own(proc: Path = PROC) -> str:
    """Return the service that this process runs in; an empty string if in none."""
    found = SERVICE.search(read(proc / "cgroup"))
    return found[1] if found else ""


def stop_timeout(unit: str) -> float | None:
    """Return the seconds after which systemd kills a *unit* that stops.

    None if there is no such service, or no systemd. It is infinite where the arbiter
    asks for more time while it drains, as it does if `Type` is one of ``notify``.
    """
    properties = "--property=LoadState,Type,TimeoutStopUSec"
    command = ("systemctl", "show", properties, "--", unit)
    try:
        done = subprocess.run(  # noqa: S603  no shell, and a name of the operator's
            command, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    shown = dict(line.split("=", 1) for line in done.stdout.splitlines() if line)
    if shown.get("LoadState") != "loaded" or "TimeoutStopUSec" not in shown:
        return None
    if shown["Type"].startswith("notify"):
        return math.inf
    return seconds(shown["TimeoutStopUSec"])


def seconds(span: str) -> float:
    """Return the seconds of a time span as systemd writes it: ``1min 30s``."""
    if span == "infinity":
        return math.inf
    return sum(
        float(number) * SECONDS[unit]
        for number, unit in re.findall(r"([\d.]+)([a-z]+)", span)
    )
