"""Latencies under an open-loop load, with a handler in twenty that takes 20 ms of CPU.

Requests are due at a rate that does not depend on the answers: half of what saturates
the slowest server. The latency of each is counted from when it was due, also if the
client could not send it in time (no coordinated omission). Every server gets the same
requests at the same times, with two workers.
"""

from __future__ import annotations

import json
import sys
from statistics import median

from servers import HERE, PEERS, Server, running
from stage import Run, call
from works import figures_of, measure, wrk

WORKERS = 2
CONNECTIONS = 64
SECONDS = 5  # of a round
SATURATION = 3  # seconds of load that find out how much a server can do
ROUNDS = 3
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def tails(run: Run) -> dict[str, dict[str, float]]:
    """Return each server's quantiles, medians of rounds, in µs; the rate is in each."""
    names = [name for name in run.servers if not PEERS[name].lacks]
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with running(run, names, "pid", workers=WORKERS) as servers:
        rate = _rate(run, servers)
        for seed in range(min(ROUNDS, run.scale.rounds) if rate else 0):
            for server in servers:
                with run.attempt(f"{server.name}, tails"):
                    found = quantiles(_round(server, rate, seed))
                    rounds[server.name].append(found)
                    run.say(f"tails            {server.name:15} {_milliseconds(found)}")
    return {
        name: {"rate": rate, **{q: median(one[q] for one in found) for q in QUANTILES}}
        for name, found in rounds.items()
        if found
    }


def _rate(run: Run, servers: list[Server]) -> int:
    """Return half of the requests per second that saturate the slowest server."""
    rates = []
    seconds = SATURATION
    for server in servers:
        with run.attempt(f"{server.name}, saturation"):
            command = wrk(server.port, seconds, CONNECTIONS, "tails")
            rates.append(measure(server, lambda c=command: figures_of(c, seconds)).rate)
            run.say(f"saturated        {server.name:15} {rates[-1]:7.0f}/s")
    return int(min(rates, default=0) / 2)


def _round(server: Server, rate: int, seed: int) -> list[float]:
    words = ["arrivals.py", server.port, SECONDS, rate, CONNECTIONS, seed]
    said = call([sys.executable, *map(str, words)], SECONDS, cwd=str(HERE))
    latencies: list[float] = json.loads(said)
    return latencies


def quantiles(latencies: list[float]) -> dict[str, float]:
    ordered = sorted(latencies)
    return {name: ordered[int(len(ordered) * q)] for name, q in QUANTILES.items()}


def _milliseconds(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value / 1000:.1f} ms" for name, value in found.items())
