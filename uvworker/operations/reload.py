"""``python -m uvworker reload``: sends HUP to the arbiter, and waits for the outcome.

For deploy scripts and systemd's ``ExecReload``: the signal alone tells nobody whether
the new release serves.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .client import Unreachable, add_address, parse
from .status import fetch

PERIOD = 0.2  # seconds between two looks
PATIENCE = 10.0  # seconds without an answer; a worker that leaves may break one off


def run(arguments: list[str]) -> int:
    """Run the command; its exit code is 0 if the new workers serve, 1 if not."""
    parser = argparse.ArgumentParser("python -m uvworker reload")
    add_address(parser)
    address = parse(parser, arguments).address
    try:
        after = _reload(address)
    except (Unreachable, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 1
    return _tell(after)


def _reload(address: str) -> dict[str, Any]:
    """Send the signal, and return the status after the reload."""
    before = fetch(address)
    if not _is_here(before):
        raise Unreachable(
            f"The arbiter {before['arbiter']} that answers on {address} is no process "
            "of this machine or container: reload it there."
        )
    os.kill(before["arbiter"], signal.SIGHUP)
    return _outcome(address, before["generation"]["number"])


def _is_here(status: Mapping[str, Any]) -> bool:
    """Return whether a pid means the same here: workers are the arbiter's children."""
    if not Path("/proc/self/stat").exists():
        return True
    parents = {_parent(worker["pid"]) for worker in status["workers"]}
    return parents - {None} == {status["arbiter"]}  # but for one that has just ended


def _parent(pid: int) -> int | None:
    try:
        # After the name, which may hold anything: the state, then the parent.
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except OSError:
        return None
    return int(stat.split()[1])


def _outcome(address: str, number: int) -> dict[str, Any]:
    """Return the status once a generation after *number* is decided."""
    answered_at = time.monotonic()
    while True:
        try:
            status = fetch(address)
        except Unreachable:
            if time.monotonic() - answered_at > PATIENCE:
                raise
        else:
            answered_at, newest = time.monotonic(), status["generation"]
            if newest["number"] > number and newest["state"] != "booting":
                return status
        time.sleep(PERIOD)


def _tell(status: Mapping[str, Any]) -> int:
    if status["generation"]["state"] == "serving":
        sys.stdout.write(f"Reloaded: {status['wanted']} new workers serve.\n")
        return 0
    sys.stderr.write("The reload failed; the workers from before it serve on.\n")
    for worker in status["workers"]:
        for problem in worker["problems"]:
            sys.stderr.write(f"worker {worker['id']} {problem}\n")
    return 1
