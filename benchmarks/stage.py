"""One run of the benchmark: how long its parts take, how far it is, what went wrong.

Rule: a server that fails costs its own figure and no other. The run goes on, names it
where its figure would be, and ends with an error.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from types import FrameType

from servers import Fault

# What a server can make of a client, or of what looks at it.
FAULTS = (
    *(Fault, HTTPException, OSError, subprocess.SubprocessError),
    *(ValueError, LookupError),
)

LIMIT = 30 * 60  # seconds for the whole; it should need 20 minutes
CLIENT = 60.0  # seconds for a client to end, beyond those of its load


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int  # of each server at each work
    seconds: int  # of load in a round
    warm_up: int  # seconds of load before the first round
    connections: int  # idle ones, whose memory is measured
    most: int  # idle connections, where the cost of a request is measured


QUICK = Scale(rounds=1, seconds=1, warm_up=0, connections=500, most=1000)
WHOLE = Scale(rounds=7, seconds=1, warm_up=1, connections=5000, most=10_000)


@dataclass
class Run:
    servers: list[str]
    works: list[str]
    scale: Scale
    faults: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def say(self, line: str) -> None:
        """Print *line* behind the minutes and seconds so far."""
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        print(f"{minutes:3}:{seconds:02} {line}", flush=True)

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Note what goes wrong in a ``with`` block, and go on behind it."""
        try:
            yield
        except FAULTS as error:
            said = getattr(error, "stderr", None) or ""
            self.faults.append(f"{what}: {error} {said}".strip())
            self.say(f"FAULT {self.faults[-1]}")


def call(command: list[str], seconds: float, **options: str) -> str:
    """Return what a client prints, whose load lasts so many *seconds*."""
    return subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        timeout=seconds + CLIENT,
        **options,
    ).stdout


def limit(seconds: int = LIMIT) -> None:
    """End this program after so many *seconds* or by TERM, with the servers it runs."""

    def too_long(_signum: int, _frame: FrameType | None) -> None:
        sys.exit(f"The benchmark is not over after {seconds // 60} minutes: stopped.")

    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Stopped."))
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
