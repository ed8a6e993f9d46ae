"""``python -m uvworker status``: prints `/status.json` for people and scripts."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from .client import Unreachable, add_address, ask, parse
from .figures import MEGABYTE, age
from .health import SILENT

# The worker's value in each column, and the column's head.
COLUMNS: Mapping[str, str] = {
    "id": "id",
    "pid": "pid",
    "state": "state",
    "uptime": "age",
    "requests": "requests",
    "in_flight": "in flight",
    "connections": "connections",
    "lag": "lag ms",
    "rss": "RSS MB",
    "cpu_seconds": "CPU s",
}
REDRAWN = 1.0  # seconds; a worker publishes its counts once a second
CLEAR = "\x1b[H\x1b[2J"  # the terminal


def run(arguments: list[str]) -> int:
    """Run the command; its exit code is 0 if the service is ready, 1 if it is not."""
    parser = argparse.ArgumentParser("python -m uvworker status")
    add_address(parser)
    parser.add_argument("--json", action="store_true", help="print /status.json")
    parser.add_argument("--quiet", action="store_true", help="print nothing")
    parser.add_argument("--watch", action="store_true", help="print every second")
    asked = parse(parser, arguments)
    try:
        while asked.watch:
            sys.stdout.write(CLEAR + _said(asked.address))
            sys.stdout.flush()
            time.sleep(REDRAWN)
        status = fetch(asked.address)
    except KeyboardInterrupt:
        return 0
    except Unreachable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if not asked.quiet:
        text = json.dumps(status, indent=2) + "\n" if asked.json else render(status)
        sys.stdout.write(text)
    return 0 if status["ready"] else 1


def _said(address: str) -> str:
    """Return the status as text, or that the service does not answer."""
    try:
        return render(fetch(address))
    except Unreachable as error:
        return f"{error}\n"


def fetch(address: str) -> dict[str, Any]:
    """Return `/status.json` of the service whose ``ops_bind`` is *address*.

    Raises :class:`Unreachable` if the service does not answer.
    """
    _, body = ask(address, "/status.json")
    try:
        status = json.loads(body)
    except ValueError as error:
        raise Unreachable(f"No uvworker answers on {address}: {error}") from error
    if not (isinstance(status, dict) and "workers" in status):
        raise Unreachable(f"No uvworker answers on {address}, but something else")
    return status


def render(status: Mapping[str, Any], columns: Mapping[str, str] = COLUMNS) -> str:
    """Return lines about the service, and a line with *columns* for each worker."""
    workers = status["workers"]
    serving = sum(worker["state"] == "serving" for worker in workers)
    in_flight = sum(worker["in_flight"] for worker in workers)
    versions = ", ".join(f"{name} {v}" for name, v in status["versions"].items())
    state = "ready" if status["ready"] else "not ready"
    up = age(time.time() - status["started_at"])
    lines = [
        f"{state}: {serving} of {status['wanted']} workers serve",
        f"{in_flight} requests in flight; arbiter {status['arbiter']}, up {up}",
        versions,
    ]
    if reloaded := _reload(status["generation"]):
        lines.append(reloaded)
    if waiting := _waiting(status["listeners"]):
        lines.append(waiting)
    rows = [list(columns.values())]
    rows += ([_cell(name, worker) for name in columns] for worker in workers)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    lines += [
        f"worker {worker['id']} {problem}"
        for worker in workers
        for problem in worker["problems"]
    ]
    return "\n".join(lines) + "\n"


def _reload(generation: Mapping[str, Any]) -> str:
    """Return what became of the last reload, if there was one."""
    if generation["number"] == 1:
        return ""
    outcome = {"serving": "succeeded", "failed": "FAILED", "booting": "goes on"}
    ago = age(time.time() - generation["began_at"])
    return f"the last reload, {ago} ago, {outcome[generation['state']]}"


def _waiting(listeners: list[Mapping[str, Any]]) -> str:
    known = [listener for listener in listeners if listener["waiting"] is not None]
    told = (f"{x['address']} has {x['waiting']} of {x['limit']}" for x in known)
    return f"backlog: {', '.join(told)}" if known else ""


def _cell(name: str, worker: Mapping[str, Any]) -> str:
    value = worker[name]
    if value is None:
        return "-"
    if name == "state":
        return _state(worker)
    if name == "uptime":
        return age(value)
    if name == "lag":
        return f"{value * 1000:.0f}"
    if name == "rss":
        return f"{value / MEGABYTE:.0f}"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _state(worker: Mapping[str, Any]) -> str:
    state = str(worker["state"])
    if state in ("serving", "draining") and worker["silence"] > SILENT:
        return "blocked"
    if state != "serving":
        return state
    if worker["retiring"]:
        return "retiring"
    return "serving" if worker["healthy"] else "unhealthy"
