"""The figures as Markdown, and what they were measured on."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from growth import DIMENSIONS
from servers import PEERS, PRELOAD
from tails import QUANTILES
from works import WORKS

PACKAGES = (
    *("uvworker", "gunicorn", "gunicorn_h1c", "uvicorn", "uvicorn-worker", "uvloop"),
    *("httptools", "websockets", "zttp", "granian", "hypercorn", "starlette"),
    *("fastapi", "pydantic"),
)
MARK = "<!-- The rest is written by benchmarks/run.py. -->\n"
ROW = 6  # works side by side in a table
Results = dict[str, Any]
Rows = list[list[str]]


def machine() -> dict[str, Any]:
    """Return what one needs to compare a run with another."""
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
    """Return the figures as Markdown; a part that was not measured is left out."""
    parts = {
        "works": _works,
        "tails": _tails,
        "growth": _growth,
        "memory": _memory,
        "deployment": _deployment,
        "handover": _handover,
    }
    found = [
        line
        for name, write in parts.items()
        if results.get(name)
        for line in write(results)
    ]
    faults = [f"Without a figure: {fault}" for fault in results.get("faults", ())]
    return "\n\n".join([*found, *faults, _about(results["about"])])


def _picture(name: str, says: str) -> str:
    return f"![{says}](pictures/{name}.svg)"


def _works(results: Results) -> list[str]:
    return [
        "### CPU time per request, µs (ratio to uvicorn_worker)",
        _picture("cpu", "CPU time per request of each server, as bars"),
        *_by_work(results, _cpu, last=_targets),
        "### Requests per second",
        *_by_work(results, lambda one: f"{one['rate']:,.0f}"),
        "### 99th percentile of latency, ms",
        *_by_work(results, lambda one: f"{one['p99'] / 1000:.1f}"),
    ]


def _by_work(
    results: Results,
    cell: Callable[[dict[str, float]], str],
    last: Callable[[list[str]], Rows] = lambda _: [],
) -> list[str]:
    """Return tables of `ROW` works each."""
    works = results["works"]
    names = [*works]
    return [
        markdown([*_rows({one: works[one] for one in row}, cell), *last(row)])
        for row in (names[at : at + ROW] for at in range(0, len(names), ROW))
    ]


def _rows(
    columns: dict[str, dict[str, dict[str, float]]],
    cell: Callable[[dict[str, float]], str],
) -> Rows:
    rows = [["", *columns]]
    for name in PEERS:
        if any(name in servers for servers in columns.values()):
            figures = [servers.get(name) for servers in columns.values()]
            rows.append([name, *(cell(one) if one else "-" for one in figures)])
    return rows


def _cpu(one: dict[str, float]) -> str:
    ratio = f" ({one['ratio']:.2f})" if "ratio" in one else ""
    return f"{one['cpu']:.1f}{ratio}"


def _targets(works: list[str]) -> Rows:
    targets = (WORKS[work].target for work in works)
    return [["*target*", *(f"({one:.2f})" if one else "-" for one in targets)]]


def _tails(results: Results) -> list[str]:
    found = results["tails"]
    rate = next(iter(found.values()))["rate"]
    rows = [
        [name, *(f"{one[quantile] / 1000:.1f}" for quantile in QUANTILES)]
        for name, one in found.items()
    ]
    return [
        f"### Latency at {rate} requests per second, ms",
        _picture("tails", "Latencies of each server under the same load, as bars"),
        markdown(
            [["two workers, one request in twenty burns 20 ms", *QUANTILES], *rows]
        ),
    ]


def _growth(results: Results) -> list[str]:
    lines = [
        "### CPU time per request as something grows, µs",
        _picture("growth", "CPU time per request against four sizes, as curves"),
    ]
    for name, curves in results["growth"].items():
        values = max((curve["values"] for curve in curves.values()), key=len)
        rows = [[DIMENSIONS[name].title, *(f"{value:,}" for value in values)]]
        rows += [[server, *_numbers(curve["cpu"])] for server, curve in curves.items()]
        lines.append(markdown(rows))
    return lines


def _numbers(figures: Iterable[float]) -> list[str]:
    return [f"{figure:,.1f}" for figure in figures]


def _memory(results: Results) -> list[str]:
    idle = "idle connection, kB", "idle WebSocket, kB"
    rows = [["one worker", "worker, MB", "private, MB", *idle]]
    for name, weight in results["memory"].items():
        worker, private = weight["worker"] / 1e6, weight["private"] / 1e6
        connection = weight["connection"] / 1e3
        websocket = f"{weight['websocket'] / 1e3:.2f}" if "websocket" in weight else "-"
        figures = f"{worker:.1f}", f"{private:.1f}", f"{connection:.2f}", websocket
        rows.append([name, *figures])
    return [
        "### Memory",
        _picture("memory", "Memory with and without --preload, as bars"),
        markdown(rows),
    ]


def _deployment(results: Results) -> list[str]:
    rows = [["four workers", "memory, MB", "with `--preload`, MB", "connections"]]
    for name, one in results["deployment"].items():
        sizes = (_megabytes(one.get(key)) for key in ("memory", PRELOAD))
        rows.append([name, *sizes, ", ".join(map(str, one.get("connections", ())))])
    return [markdown(rows), _picture("spread", "400 connections over four workers")]


def _megabytes(size: float | None) -> str:
    return f"{size / 1e6:.0f}" if size else "-"


def _handover(results: Results) -> list[str]:
    requests = results["handover"]["requests"]
    lost = sum(not request["worker"] for request in requests)
    return [
        "### A hand-over",
        _picture("handover", "Old and new workers, and their requests, in a reload"),
        f"Of {len(requests)} requests of eight clients {lost} are lost.",
    ]


def replace(page: Path, tables: str) -> None:
    """Replace the tables of the page, from `MARK` to its end, by *tables*."""
    head = page.read_text().partition(MARK)[0] if page.exists() else "# Benchmarks\n\n"
    page.write_text(f"{head}{MARK}\n{tables}\n")


def markdown(rows: Rows) -> str:
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
        f"{where(about)} Medians of {about['rounds']} rounds of {about['seconds']} s; "
        f"memory with {about['connections']} idle connections; load average before: "
        f"{about['load average before']}."
    )
