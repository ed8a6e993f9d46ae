"""The kinds of work: what is served, that it is served rightly, and who asks for it."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps import CHUNK, CHUNKS, GREETING
from servers import HERE, Server

BODY = bytes(range(250)) * 40  # 10 kB
LOG_PATIENCE = 5.0  # seconds for the lines of the last requests
ITEM = {"id": 1, "name": "lamp", "price": 1.5, "tags": ["a", "b"]}


@dataclass(frozen=True)
class Work:
    """*target*: CPU time per request, ours by uvicorn_worker's, to reach or beat."""

    title: str
    target: float
    app: str = "plain"
    path: str = "/"
    connections: int = 64
    logged: bool = False
    answer: Any = GREETING  # bytes, or what they are as JSON


WORKS = {
    "plain": Work("13-byte response, keep-alive", 0.52),
    "access log": Work("the same with an access log to a file", 0.36, logged=True),
    "FastAPI": Work("FastAPI, pydantic to JSON", 0.80, "api", "/items/1", answer=ITEM),
    "echo": Work("10 kB POST, echoed", 0.58, "echo", answer=BODY),
    "stream": Work(
        "1 MB in 64 chunks", 1.0, "stream", connections=8, answer=CHUNK * CHUNKS
    ),
    "new connections": Work("a new connection per request", 0.88),
    "WebSocket": Work("100-byte WebSocket messages, echoed", 1.0, "websocket"),
}


@dataclass(frozen=True)
class Sample:
    """What one server did in one round."""

    cpu: float  # µs of CPU time per request, of all the server's processes
    rate: float  # requests per second
    p99: float  # µs


def sample(name: str, server: Server, seconds: int) -> Sample:
    """Put *server* under the load of the work *name*; every answer must be right."""
    work = WORKS[name]
    check(name, work, server)
    logged = server.log.stat().st_size
    before = server.cpu()
    output = subprocess.run(
        load(name, work, server.port, seconds),
        check=True,
        cwd=HERE,
        capture_output=True,
        text=True,
    ).stdout
    used = server.cpu() - before
    figures = json.loads(output.splitlines()[-1])
    requests = figures["requests"]
    # Who was asked to close and does, without announcing it, surprises only wrk.
    closed = 0 if name == "new connections" else figures["closed"]
    if figures["failures"] or closed or not requests:
        sys.exit(f"{server.name}, {name}: {output}")
    if work.logged:
        expect_log(server, logged, requests)
    return Sample(used / requests, requests / figures["seconds"], figures["p99"])


def load(name: str, work: Work, port: int, seconds: int) -> list[str]:
    """Return the command that asks for *seconds*."""
    count = str(work.connections)
    if work.app == "websocket":
        return [sys.executable, "chat.py", str(port), str(seconds), count]
    wrk = ["wrk", "-t1", "-c", count, "-d", f"{seconds}s", "-s", "load.lua"]
    return [*wrk, f"http://127.0.0.1:{port}{work.path}", "--", name]


def check(name: str, work: Work, server: Server) -> None:
    """Stop the benchmark if the answer is not the right one."""
    if work.app == "websocket":
        return  # the client looks at each message
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    method = "POST" if work.app == "echo" else "GET"
    connection.request(method, work.path, BODY if work.app == "echo" else None)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    answer = body if isinstance(work.answer, bytes) else json.loads(body)
    if response.status != 200 or answer != work.answer:  # noqa: PLR2004  OK
        sys.exit(f"{server.name}, {name}: {response.status} {body[:100]!r}")


def expect_log(server: Server, before: int, requests: int) -> None:
    """Stop the benchmark if no line per request comes; then empty the log."""
    deadline = time.monotonic() + LOG_PATIENCE
    while (lines := _lines(server.log, before)) < requests:
        if time.monotonic() > deadline:
            sys.exit(f"{server.name} logged {lines} lines of {requests} requests")
        time.sleep(0.1)
    os.truncate(server.log, 0)


def _lines(log: Path, start: int) -> int:
    with log.open("rb") as file:
        file.seek(start)
        return sum(1 for _ in file)
