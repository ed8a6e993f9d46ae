"""The fields of `/status.json`: those that the documentation names, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tests
from uvworker.operations.endpoints import status
from uvworker.operations.facts import (
    Listener,
    LogLine,
    Point,
    Recent,
    Reload,
    Reloads,
    RequestFacts,
    ServiceFacts,
    WorkerFacts,
)

DOCUMENT = Path(tests.__file__).parents[1] / "docs" / "operations.md"
# Their keys are not fields.
BY_NAME = {
    "versions",
    "exits",
    "signals",
    *("counts.requests", "counts.cpu_seconds", "counts.accept_pauses"),
    *("counts.refused", "counts.collections"),
}

FACTS = ServiceFacts(
    versions={},
    arbiter=1,
    arbiter_alive=True,
    started_at=0.0,
    wanted=1,
    ever_served=0,
    timeout=30,
    boot_timeout=None,
    workers=[WorkerFacts(id=0, pid=2, state="serving")],
    reloads=Reloads(latest=[Reload(0.0, "good")]),
    listeners=[Listener("127.0.0.1:80", 0, 100)],
    requests_in_flight=[RequestFacts(0, "GET", "/", 0.1)],
)
RECENT = Recent(
    [Point(0.0, 1.0, 0.0, 0.1, 0.1, 0.1)], [LogLine(0.0, "ERROR", None, 1, "")]
)


def fields(value: Any, prefix: str = "") -> Iterator[str]:
    """Yield the name of each field that holds a value, as the documentation does."""
    if isinstance(value, dict) and prefix not in BY_NAME:
        for name, inner in value.items():
            yield from fields(inner, f"{prefix}.{name}" if prefix else name)
    elif isinstance(value, list):
        yield from fields(value[0], f"{prefix}[]")
    else:
        yield prefix


def test_each_field_is_documented_and_each_documented_one_is_there() -> None:
    section = DOCUMENT.read_text().partition("### `/status.json`")[2]
    rows = re.findall(r"^\| (`.*?) \|", section.partition("\n#")[0], re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(.+?)`", row)}
    headlines = {"recent", *(name for name in documented if name.endswith("[]"))}
    assert documented - headlines == set(fields(status(FACTS, RECENT)))
