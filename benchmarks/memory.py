"""The memory of a worker, and of each idle connection.

Idle means between two requests: each connection has got one answer, and stays open. An
idle WebSocket is accepted, without compression, and sends nothing.
"""

from __future__ import annotations

import resource
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

from apps import GREETING
from chat import HANDSHAKE
from servers import ANSWER, HERE, PEERS, Fault, Server, running
from stage import Run, call
from works import WORKS, load

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
WARM = 1  # seconds of load before the worker is weighed
END = b"\r\n\r\n"
SPARE = 200  # file descriptors beside those of the connections


@dataclass(frozen=True)
class Weight:
    worker: int  # bytes resident, after a second of load
    private: int  # of these, not shared with the arbiter
    connection: float  # bytes per idle connection


def memory(run: Run) -> dict[str, dict[str, float]]:
    """Return the memory of each server, which runs alone."""
    weights: dict[str, dict[str, float]] = {}
    connections = run.scale.connections
    for name in run.servers:
        with running(run, [name], "plain") as started:
            for server in started:
                with run.attempt(f"{name}, memory"):
                    weights[name] = asdict(weigh(server, connections))
        if name in weights and "WebSocket" not in PEERS[name].lacks:
            with running(run, [name], "websocket") as started:
                for server in started:
                    with run.attempt(f"{name}, memory of WebSockets"):
                        each = weigh_websockets(server, connections)
                        weights[name]["websocket"] = each
        run.say(f"memory           {name:15} {_kilobytes(weights.get(name, {}))}")
    return weights


def _kilobytes(weight: dict[str, float]) -> str:
    return ", ".join(f"{name} {size / 1e3:,.1f} kB" for name, size in weight.items())


def weigh(server: Server, connections: int) -> Weight:
    """Weigh *server*, which serves the plain app, without and with *connections*."""
    warm_up = load("plain", WORKS["plain"], server.port, WARM)
    call(warm_up, WARM, cwd=str(HERE))
    _, largest, private = server.memory()
    return Weight(largest, private, _each(server, connections, REQUEST, GREETING))


def weigh_websockets(server: Server, connections: int) -> float:
    """Return the bytes of an idle WebSocket; *server* serves the app for them."""
    _each(server, SPARE, HANDSHAKE, END)  # what the first ones need is not theirs
    return _each(server, connections, HANDSHAKE, END)


def _each(server: Server, connections: int, request: bytes, end: bytes) -> float:
    """Return what each of so many adds, once its response has come to its *end*."""
    before, *_ = server.memory()
    with idle(server, connections, request, end):
        after, *_ = server.memory()
    return (after - before) / connections


@contextmanager
def idle(
    server: Server, count: int, request: bytes = REQUEST, end: bytes = GREETING
) -> Iterator[None]:
    """Hold so many idle connections for a ``with`` block, in which none may close."""
    with ExitStack() as stack:
        poll = select.poll()
        for _ in range(count):
            connection = stack.enter_context(_visit(server.port, request, end))
            poll.register(connection, select.POLLIN)
        yield
        if closed := len(poll.poll(0)):
            raise Fault(f"closed {closed} of {count} idle connections")


def _visit(port: int, request: bytes, end: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=ANSWER)
    connection.sendall(request)
    received = b""
    while not received.endswith(end):
        if not (more := connection.recv(4096)):
            raise Fault(f"closed a connection behind {received!r}")
        received += more
    return connection


def allow_files(count: int) -> int:
    """Let this program and its servers open *count* connections; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = max(soft, min(count + SPARE, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed - SPARE
