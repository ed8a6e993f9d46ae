"""What a worker weighs, and what an idle connection adds.

Idle means between two requests: each connection has had one answer, and is kept.
"""

from __future__ import annotations

import resource
import select
import socket
import subprocess
import sys
from dataclasses import dataclass

from servers import HERE, Server
from works import WORKS, load

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
WARM = 1  # seconds of load before the worker is weighed
SPARE = 200  # file descriptors beside those of the connections


@dataclass(frozen=True)
class Weight:
    worker: int  # bytes resident, after a second of load
    private: int  # of these, what is not shared with the arbiter
    connection: float  # bytes per idle connection


def weigh(server: Server, connections: int) -> Weight:
    """Weigh *server*, which serves the plain app, without and with *connections*."""
    warm_up = load("plain", WORKS["plain"], server.port, WARM)
    subprocess.run(warm_up, check=True, cwd=HERE, capture_output=True)
    before, largest, private = server.memory()
    idle = [_visit(server.port) for _ in range(connections)]
    after, *_ = server.memory()
    poll = select.poll()
    for connection in idle:
        poll.register(connection, select.POLLIN)
    if closed := len(poll.poll(0)):
        sys.exit(f"{server.name} closed {closed} of {connections} idle connections")
    for connection in idle:
        connection.close()
    return Weight(largest, private, (after - before) / connections)


def _visit(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(REQUEST)
    received = b""
    while not received.endswith(WORKS["plain"].answer):
        received += connection.recv(4096)
    return connection


def allow_files(count: int) -> None:
    """Let this process, and the servers that it starts, open *count* connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, min(count + SPARE, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
