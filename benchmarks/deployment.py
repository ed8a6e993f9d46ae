"""Four workers of a FastAPI app: their memory, and who gets the connections."""

from __future__ import annotations

import re
import socket
from collections import Counter
from contextlib import ExitStack
from typing import Any

from memory import WARM
from servers import ANSWER, HERE, PEERS, PRELOAD, Server, running
from stage import Run, call
from works import wrk

WORKERS = 4
CONNECTIONS = 400
REQUEST = b"GET /pid HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = re.compile(rb"\r\n\r\n(\d+)$")


def deploy(run: Run) -> dict[str, dict[str, Any]]:
    """Return bytes of memory and counts of connections of each server, one by one."""
    found: dict[str, dict[str, Any]] = {}
    for name in run.servers:
        if PEERS[name].lacks:
            continue
        found[name] = {}
        for wanted in ("", PRELOAD):
            if PEERS[name].can(wanted):
                _look(run, name, wanted, found[name])
        run.say(f"four workers     {name:15} {found[name]}")
    return found


def _look(run: Run, name: str, wanted: str, found: dict[str, Any]) -> None:
    with running(run, [name], "api", wanted, workers=WORKERS) as started:
        for server in started:
            with run.attempt(f"{name}, four workers, {wanted}"):
                call(wrk(server.port, WARM, 64, path="/items/1"), WARM, cwd=str(HERE))
                found[wanted or "memory"] = server.footprint()
                if not wanted:
                    found["connections"] = spread(server)


def spread(server: Server) -> list[int]:
    """Return how many connections each worker has; they come one by one, and stay."""
    with ExitStack() as stack:
        owners = [_visit(server, stack) for _ in range(CONNECTIONS)]
    counts = sorted(Counter(owners).values(), reverse=True)
    return counts + [0] * (WORKERS - len(counts))


def _visit(server: Server, stack: ExitStack) -> bytes:
    client = socket.create_connection(("127.0.0.1", server.port), ANSWER)
    stack.enter_context(client).sendall(REQUEST)
    received = b""
    while not (body := BODY.search(received)):
        if not (more := client.recv(4096)):
            raise OSError(f"the server closed behind {received!r}")
        received += more
    return body[1]
