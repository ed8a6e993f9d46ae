"""The figures as Markdown, and what they were measured on."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from servers import PEERS
from works import WORKS

BASE = "uvicorn_worker"  # to whose figures all are set in proportion
PACKAGES = (
    *("uvworker", "gunicorn", "gunicorn_h1c", "uvicorn", "uvicorn-worker", "uvloop"),
    *("httptools", "websockets", "granian", "hypercorn", "fastapi", "pydantic"),
)
MARK = "<!-- The rest is written by benchmarks/run.py --page. -->\n"
Results = dict[str, Any]


def machine() -> dict[str, Any]:
    """Return what has to be known about a run to compare it with another."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    cpus = [line.partition(": ")[2] for line in info if line.startswith("model name")]
    return {
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "cpu": f"{os.cpu_count()} x {cpus[0] if cpus else platform.machine()}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "load average before": round(os.getloadavg()[0], 1),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def tables(results: Results) -> str:
    """Return the figures as Markdown, one table for each."""
    parts = [
        "### CPU time per request, µs (ratio to uvicorn_worker)",
        _table(results, _cpu, last=_targets(results)),
        "### Requests per second",
        _table(results, lambda one: f"{one['rate']:,.0f}"),
        "### 99th percentile of latency, ms",
        _table(results, lambda one: f"{one['p99'] / 1000:.1f}"),
    ]
    if results["memory"]:
        parts += ["### Memory", _memory(results)]
    return "\n\n".join([*parts, _about(results["about"])])


def _table(
    results: Results,
    cell: Callable[[dict[str, float]], str],
    last: list[list[str]] | None = None,
) -> str:
    works = results["works"]
    rows = [["", *works]]
    for name in PEERS:
        if any(name in servers for servers in works.values()):
            figures = [servers.get(name) for servers in works.values()]
            cells = [cell(one) if one else "-" for one in figures]
            rows.append([name, *cells])
    return markdown([*rows, *(last or [])])


def _cpu(one: dict[str, float]) -> str:
    ratio = f" ({one['ratio']:.2f})" if "ratio" in one else ""
    return f"{one['cpu']:.1f}{ratio}"


def _targets(results: Results) -> list[list[str]]:
    return [["*target*", *(f"({WORKS[work].target:.2f})" for work in results["works"])]]


def _memory(results: Results) -> str:
    rows = [["", "worker, MB", "private, MB", "idle connection, kB"]]
    for name, weight in results["memory"].items():
        worker, private = weight["worker"] / 1e6, weight["private"] / 1e6
        connection = weight["connection"] / 1e3
        rows.append([name, f"{worker:.1f}", f"{private:.1f}", f"{connection:.2f}"])
    return markdown(rows)


def replace(page: Path, tables: str) -> None:
    """Put *tables* where the page has its old ones: behind `MARK`, to its end."""
    head, mark, _ = page.read_text().partition(MARK)
    page.write_text(f"{head}{mark}\n{tables}\n")


def markdown(rows: list[list[str]]) -> str:
    """Return *rows* as a table; the first is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    rule = "|---" + "|--:" * (len(rows[0]) - 1) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def where(about: dict[str, Any]) -> str:
    """Return one line from what `machine` found."""
    versions = ", ".join(f"{name} {v}" for name, v in about["versions"].items())
    return (
        f"{about['date']}, {about['cpu']}, Linux {about['kernel']}, Python "
        f"{about['python']}; {versions}."
    )


def _about(about: dict[str, Any]) -> str:
    return (
        f"{where(about)} Medians of {about['rounds']} rounds of "
        f"{about['seconds']} s; memory with {about['connections']} idle connections."
    )
