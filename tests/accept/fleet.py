"""Forked workers that share listeners through a scoreboard and acceptors.

Each connection is sent the id of the worker that accepted it, and stays open.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import uvloop

from uvworker.accept.acceptor import Acceptor, Connections
from uvworker.accept.handshakes import Handshakes
from uvworker.accept.tls import Certificates
from uvworker.process.siblings import Siblings
from uvworker.shared_memory.scoreboard import Scoreboard, Slot, State

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
BEAT = 0.1  # seconds; siblings notice one another that soon


class Greeter(asyncio.Protocol):
    """Says who accepted, and holds the connection."""

    def __init__(self, connections: set[Any], worker_id: int) -> None:
        self.connections = connections
        self.greeting = b"%03d" % worker_id

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.connections.add(self)
        transport.write(self.greeting)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.connections.discard(self)


async def serve(
    board: Scoreboard,
    slot: Slot,
    listeners: Sequence[socket.socket],
    certificates: Certificates | None = None,
    **options: Any,
) -> None:
    """Accept until SIGTERM."""
    siblings = Siblings(board, slot)

    def changed(count: int) -> None:
        slot.connections = count
        acceptor.connection_closed()

    connections = Connections(changed)
    acceptor = Acceptor(
        Handshakes(lambda: Greeter(connections, slot.id), certificates=certificates),
        listeners,
        connections=connections.__len__,
        balance=siblings,
        **options,
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    slot.beat(time.monotonic())
    slot.serve()
    acceptor.resume()
    while not stop.is_set():
        slot.beat(time.monotonic())
        siblings.refresh(time.monotonic())
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stop.wait(), BEAT)
    slot.state = State.DRAINING
    acceptor.close()


@contextlib.contextmanager
def fleet(
    count: int,
    listeners: Sequence[socket.socket],
    *,
    loop: str = "asyncio",
    **options: Any,
) -> Iterator[Scoreboard]:
    """Fork *count* workers, and kill them afterwards."""
    board = Scoreboard()
    pids = []
    for age in range(1, count + 1):
        slot = board.claim(age)
        pid = os.fork()
        if not pid:
            status = 1
            try:
                new_loop = LOOPS[loop]()
                asyncio.set_event_loop(new_loop)
                new_loop.run_until_complete(serve(board, slot, listeners, **options))
                status = 0
            finally:
                os._exit(status)
        slot.occupy(pid)
        pids.append(pid)
    try:
        until(lambda: sum(w.state is State.SERVING for w in board.workers()) == count)
        seen = time.monotonic() + 2 * BEAT
        until(lambda: time.monotonic() > seen)  # every worker has met its siblings
        yield board
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def until(fact: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for a fact."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)
