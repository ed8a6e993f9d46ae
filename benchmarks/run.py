"""The comparison with peers, in one run: ``python benchmarks/run.py``, ``make bench``.

Every server does every kind of work, one round after the other in turns, so that what
disturbs the machine disturbs all; a figure is the median of its rounds. The figure to
trust on a shared machine is CPU time per request, which a neighbour lengthens little.
A wrong answer, a failed request or a missing line in the access log ends the run.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from statistics import median

import report
from memory import allow_files, weigh
from servers import PEERS, running
from works import WORKS, Sample, sample

# In seconds, but for what is a number; under two minutes, and a quarter of an hour.
QUICK = {"rounds": 1, "seconds": 1, "warm_up": 0, "connections": 1000}
WHOLE = {"rounds": 7, "seconds": 2, "warm_up": 1, "connections": 5000}


def main() -> None:
    arguments = _arguments()
    allow_files(arguments.connections)
    results = {
        "about": {
            **report.machine(),
            **{name: getattr(arguments, name) for name in WHOLE},
        },
        "works": {
            work: compare(work, arguments.servers, arguments)
            for work in arguments.works
        },
        "memory": memory(arguments.servers, arguments.connections),
    }
    arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    tables = report.tables(results)
    print(tables)
    if arguments.page:
        report.replace(arguments.page, tables)


def compare(
    work: str, names: list[str], arguments: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Return each server's medians for *work*; prints every round."""
    able = [name for name in names if work not in PEERS[name].lacks]
    samples: dict[str, list[Sample]] = {name: [] for name in able}
    with running(able, WORKS[work].app, logged=WORKS[work].logged) as servers:
        if arguments.warm_up:
            for server in servers:
                sample(work, server, arguments.warm_up)
        for _ in range(arguments.rounds):
            for server in servers:
                one = sample(work, server, arguments.seconds)
                samples[server.name].append(one)
                print(
                    f"{work:16} {server.name:15} {one.cpu:7.1f} µs"
                    f" {one.rate:7.0f}/s {one.p99 / 1000:6.1f} ms",
                    flush=True,
                )
            servers.append(servers.pop(0))  # another one begins
    base = samples.get(report.BASE)
    return {name: _medians(rounds, base) for name, rounds in samples.items()}


def memory(names: list[str], connections: int) -> dict[str, dict[str, float]]:
    """Return what each server weighs; one after the other, each by itself."""
    weights: dict[str, dict[str, float]] = {}
    for name in names if connections else []:
        with running([name], "plain") as (server,):
            weights[name] = asdict(weigh(server, connections))
            print(f"memory           {name:15} {weights[name]}", flush=True)
    return weights


def _medians(rounds: list[Sample], base: list[Sample] | None) -> dict[str, float]:
    """Return the medians, and that of the CPU time's ratio to *base*'s, by round."""
    medians = {
        field: median(getattr(one, field) for one in rounds)
        for field in ("cpu", "rate", "p99")
    }
    if base:
        pairs = zip(rounds, base, strict=True)
        medians["ratio"] = median(one.cpu / other.cpu for one, other in pairs)
    return medians


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="rough, in two minutes")
    parser.add_argument("--rounds", type=int, help="of each server at each work")
    parser.add_argument("--seconds", type=int, help="that a round lasts")
    parser.add_argument("--warm-up", type=int, help="seconds of load before; 0: none")
    parser.add_argument("--connections", type=int, help="that are idle; 0: none")
    parser.add_argument("--servers", nargs="+", choices=PEERS, default=[*PEERS])
    parser.add_argument("--works", nargs="*", choices=WORKS, default=[*WORKS])
    parser.add_argument(
        "--json",
        type=Path,
        default=Path("benchmarks.json"),
        help="where the figures go",
    )
    parser.add_argument("--page", type=Path, help="whose tables these replace")
    arguments = parser.parse_args()
    for name, value in (QUICK if arguments.quick else WHOLE).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    return arguments


if __name__ == "__main__":
    main()
