"""What a request costs as something grows: nothing may grow faster than its work."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import median

from memory import allow_files, idle
from servers import Server, running
from stage import Run
from works import Sample, figures_of, measure, wrk

SERVERS = ("uvworker", "uvicorn_worker", "granian")
ROUNDS = 3
CONNECTIONS = 32

Command = Callable[[int, int], list[str]]  # of port and seconds


@dataclass(frozen=True)
class Dimension:
    title: str
    values: tuple[int, ...]
    app: str = "plain"
    kind: str = ""  # of wrk's load, which gets the value


DIMENSIONS = {
    "connections": Dimension("idle connections", (1, 10, 100, 1000, 10_000)),
    "fields": Dimension("header fields", (5, 20, 50, 100), kind="fields"),
    "body": Dimension(
        "bytes of body", (1000, 10_000, 100_000, 1_000_000), "upload", "body"
    ),
    "workers": Dimension("workers on two CPUs", (1, 2, 4), "pid"),
}

Curves = dict[str, dict[str, list[float]]]  # by server: values, cpu, rate


def grow(run: Run) -> dict[str, Curves]:
    """Return the cost of a request along each dimension."""
    return {name: _along(run, name) for name in DIMENSIONS}


def _along(run: Run, name: str) -> Curves:
    names = [one for one in SERVERS if one in run.servers]
    curves: Curves = {one: {"values": [], "cpu": [], "rate": []} for one in names}
    dimension = DIMENSIONS[name]
    if name == "workers":
        for count in dimension.values:
            with running(run, names, dimension.app, workers=count) as servers:
                _point(run, name, count, servers, curves)
        return curves
    with running(run, names, dimension.app) as servers:
        for value in _possible(run, name):
            _point(run, name, value, servers, curves)
    return curves


def _possible(run: Run, name: str) -> list[int]:
    values = DIMENSIONS[name].values
    if name != "connections":
        return [*values]
    most = min(allow_files(run.scale.most), run.scale.most)
    return [value for value in values if value <= most]


def _point(
    run: Run, name: str, value: int, servers: list[Server], curves: Curves
) -> None:
    """Add what *value* costs to each server's curve."""
    for server in servers:
        with run.attempt(f"{server.name}, {value} {name}"), _held(name, value, server):
            samples = [
                _sample(run, name, server, value)
                for _ in range(min(ROUNDS, run.scale.rounds))
            ]
            cpu = median(one.cpu for one in samples)
            rate = median(one.rate for one in samples)
            curve = curves[server.name]
            for key, number in (("values", value), ("cpu", cpu), ("rate", rate)):
                curve[key].append(number)
            run.say(
                f"{value:9,} {name:12} {server.name:15} {cpu:7.1f} µs {rate:7.0f}/s"
            )


def _held(name: str, value: int, server: Server) -> AbstractContextManager[None]:
    return idle(server, value) if name == "connections" else nullcontext()


def _sample(run: Run, name: str, server: Server, value: int) -> Sample:
    seconds, kind = run.scale.seconds, DIMENSIONS[name].kind
    extra = (kind, value) if kind else ("plain",)
    command = wrk(server.port, seconds, CONNECTIONS, *extra)
    return measure(server, lambda: figures_of(command, seconds))
