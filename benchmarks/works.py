"""The kinds of work: the app, the check of its answer, and the load.

The servers take turns, round by round, so that other load affects all of them; a figure
is the median of its rounds. A wrong answer, a failed request or a missing line in the
access log costs a server its figure.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import h2load
from apps import CHUNK, CHUNKS, FILE_SIZE, GREETING
from servers import HERE, HTTP2, LOG, PEERS, Fault, Server, running
from stage import Run, call

BASE = "uvicorn_worker"  # ratios are to its figures
BODY = bytes(range(250)) * 40  # 10 kB
LOG_PATIENCE = 20.0  # seconds for the lines of the last requests
ITEM = {"id": 1, "name": "lamp", "price": 1.5, "tags": ["a", "b"]}


@dataclass(frozen=True)
class Work:
    """*target*: CPU time per request, ours by uvicorn_worker's, to reach or beat."""

    title: str
    target: float | None
    app: str = "plain"
    path: str = "/"
    connections: int = 64
    wanted: str = ""  # beside the app: see `servers`
    answer: Any = GREETING  # bytes, or what they are as JSON
    size: int = 0  # bytes of a WebSocket message


WORKS = {
    "plain": Work("13-byte response, keep-alive", 0.50),
    "access log": Work("the same with an access log to a file", 0.35, wanted=LOG),
    "FastAPI": Work("FastAPI, pydantic to JSON", 0.89, "api", "/items/1", answer=ITEM),
    "FastAPI, def": Work(
        "the same by a synchronous endpoint", None, "api", "/threaded/1", answer=ITEM
    ),
    "echo": Work("10 kB POST, echoed", 0.50, "echo", answer=BODY),
    "stream": Work(
        "1 MB in 64 chunks", 0.95, "stream", connections=8, answer=CHUNK * CHUNKS
    ),
    "file": Work(
        "10 MB file, Starlette's FileResponse",
        0.15,
        "file",
        connections=2,
        answer=bytes(FILE_SIZE),
    ),
    "new connections": Work("a new connection per request", 0.50),
    "WebSocket": Work("16-byte WebSocket messages, echoed", 0.82, "websocket", size=16),
    "WebSocket, 10 kB": Work(
        "10 kB WebSocket messages, echoed", 0.90, "websocket", size=10_000
    ),
    "HTTP/2": Work(
        "13-byte response, 32 streams of one connection", None, wanted=HTTP2
    ),
}


@dataclass(frozen=True)
class Sample:
    """What one server did in one round."""

    cpu: float  # µs of CPU time per request, of all the server's processes
    rate: float  # requests per second
    p99: float  # µs
    requests: int


def compare_all(run: Run) -> dict[str, dict[str, dict[str, float]]]:
    """Return the medians of each server at each work."""
    return {work: compare(run, work) for work in run.works}


def compare(run: Run, name: str) -> dict[str, dict[str, float]]:
    """Return each server's medians for a work; prints every round."""
    work = WORKS[name]
    able = [one for one in run.servers if _can(one, name)]
    samples: dict[str, list[Sample]] = {one: [] for one in able}
    with running(run, able, work.app, work.wanted) as servers:
        for number in range(run.scale.rounds):
            first = number % max(len(servers), 1)  # another one begins the next round
            for server in [*servers[first:], *servers[:first]]:
                if len(samples[server.name]) == number:  # it has not failed
                    with run.attempt(f"{server.name}, {name}"):
                        samples[server.name].append(_round(run, name, server, number))
    whole = {one: found for one, found in samples.items() if _is_whole(run, found)}
    return {one: _medians(found, whole.get(BASE)) for one, found in whole.items()}


def _is_whole(run: Run, samples: list[Sample]) -> bool:
    return len(samples) == run.scale.rounds


def _can(server: str, name: str) -> bool:
    peer = PEERS[server]
    return peer.can(WORKS[name].wanted) and name not in peer.lacks


def _round(run: Run, name: str, server: Server, number: int) -> Sample:
    scale = run.scale
    if number == 0 and scale.warm_up:
        sample(name, server, scale.warm_up)
    one = sample(name, server, scale.seconds)
    run.say(
        f"{name:16} {server.name:15} {one.cpu:7.1f} µs"
        f" {one.rate:7.0f}/s {one.p99 / 1000:6.1f} ms"
    )
    return one


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


def sample(name: str, server: Server, seconds: int) -> Sample:
    """Put *server* under the load of the work *name*; every answer must be right."""
    work = WORKS[name]
    check(work, server)
    logged = server.log.stat().st_size
    if work.wanted == HTTP2:
        return measure(server, lambda: h2load.load(server.port, seconds))
    command = load(name, work, server.port, seconds)
    # Who was asked to close and does, without announcing it, surprises only wrk.
    lenient = name == "new connections"
    one = measure(server, lambda: figures_of(command, seconds, lenient=lenient))
    if work.wanted == LOG:
        expect_log(server, logged, one.requests)
    return one


def measure(server: Server, client: Callable[[], dict[str, float]]) -> Sample:
    """Return what *server* does while *client* loads it, which returns figures."""
    before = server.cpu()
    figures = client()
    used, requests = server.cpu() - before, int(figures["requests"])
    if figures["failures"] or not requests:
        raise Fault(f"{figures}")
    rate = requests / figures["seconds"]
    return Sample(used / requests, rate, figures["p99"], requests)


def figures_of(
    command: list[str], seconds: int, *, lenient: bool = False
) -> dict[str, float]:
    """Return the figures that a client prints; a close is a failure, unless lenient."""
    figures: dict[str, float] = json.loads(
        call(command, seconds, cwd=str(HERE)).splitlines()[-1]
    )
    if not lenient:
        figures["failures"] += figures["closed"]
    return figures


def wrk(
    port: int, seconds: int, connections: int, *kind: object, path: str = "/"
) -> list[str]:
    """Return the command for a load of a *kind*, which `load.lua` knows."""
    words = ["wrk", "-t1", "-c", connections, "-d", f"{seconds}s", "-s", "load.lua"]
    words += ["--timeout", "20s"]  # a slow answer is no failure
    return [*map(str, (*words, f"http://127.0.0.1:{port}{path}", "--", *kind))]


def load(name: str, work: Work, port: int, seconds: int) -> list[str]:
    """Return the command that asks for *seconds*."""
    if work.app == "websocket":
        words = [port, seconds, work.connections, work.size]
        return [sys.executable, "chat.py", *map(str, words)]
    return wrk(port, seconds, work.connections, name, path=work.path)


def check(work: Work, server: Server) -> None:
    """Stop the benchmark if the answer is not the right one."""
    if work.app == "websocket" or work.wanted == HTTP2:
        return  # the client looks at each message, or the server speaks HTTP/2 only
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    method = "POST" if work.app == "echo" else "GET"
    connection.request(method, work.path, BODY if work.app == "echo" else None)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    answer = body if isinstance(work.answer, bytes) else json.loads(body)
    if response.status != 200 or answer != work.answer:  # noqa: PLR2004  OK
        raise Fault(f"answers {response.status} {body[:100]!r}")


def expect_log(server: Server, before: int, requests: int) -> None:
    """Stop the benchmark if no line per request comes; then empty the log."""
    deadline = time.monotonic() + LOG_PATIENCE
    while (lines := _lines(server.log, before)) < requests:
        if time.monotonic() > deadline:
            raise Fault(f"logged {lines} lines of {requests} requests")
        time.sleep(0.1)
    os.truncate(server.log, 0)


def _lines(log: Path, start: int) -> int:
    with log.open("rb") as file:
        file.seek(start)
        return sum(1 for _ in file)
