"""HTTP/2 load by nghttp2's ``h2load``: one connection with 32 streams at a time.

A new one begins after `REQUESTS`: hypercorn closes a connection after 1,000 of them,
and zttp, the library of uvworker and of uvicorn, after 4,096.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from stage import call

REQUESTS = 900
STREAMS = 32
OUTCOME = re.compile(r"requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored")
STATUS = re.compile(r"status codes: (\d+) 2xx")


def load(port: int, seconds: float) -> dict[str, float]:
    """Ask for at least so many *seconds*; return the figures that wrk would."""
    durations: list[int] = []
    began, failures = time.monotonic(), 0
    while (taken := time.monotonic() - began) < seconds:
        with TemporaryDirectory() as directory:
            log = Path(directory) / "log"
            failures += REQUESTS - _connection(port, log)
            durations += [int(line.split()[2]) for line in log.open()]
    p99 = sorted(durations)[len(durations) * 99 // 100]
    return {
        "requests": len(durations),
        "seconds": taken,
        "p99": p99,
        "failures": failures,
    }


def _connection(port: int, log: Path) -> int:
    """Send the requests of one connection; return how many were answered well."""
    words = ["h2load", "-n", REQUESTS, "-c1", "-m", STREAMS, f"--log-file={log}"]
    said = call([*map(str, words), f"http://127.0.0.1:{port}/"], 0)
    outcome, status = OUTCOME.search(said), STATUS.search(said)
    if outcome is None or status is None:
        raise ValueError(f"h2load says {said[-200:]!r}")
    return min(int(outcome[1]), int(status[1]))
