"""Open-loop load: requests are due at random times, whatever the server does.

``python arrivals.py PORT SECONDS RATE CONNECTIONS SEED`` prints the latency of each
request as JSON, in µs since it was due. One in twenty asks for ``/burn``. A request is
sent on the connection that has been idle longest, or waits here for one. The seed
decides the times, so that each server gets the same.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from collections import deque
from typing import Any

import uvloop

BURNING = 1 / 20
PATIENCE = 30.0  # seconds for the last answers
TURN = 0.001  # seconds; a loop's finest timer
LENGTH = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)


class Load:
    """The requests that wait, the connections that are idle, and the latencies."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.idle: deque[Client] = deque()
        self.latencies: list[float] = []

    def ask(self, due: float, path: bytes) -> None:
        self.waiting.append((due, path))
        self.go_on()

    def go_on(self) -> None:
        while self.idle and self.waiting:
            self.idle.popleft().send(*self.waiting.popleft())


class Client(asyncio.Protocol):
    """One connection, with a request at a time."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.received = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.load.idle.append(self)

    def send(self, due: float, path: bytes) -> None:
        self.due, self.received = due, b""
        self.transport.write(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        if end and len(body) == int(LENGTH.search(head)[1]):  # type: ignore[index]
            if not head.startswith(b"HTTP/1.1 200"):
                sys.exit(f"the server answers {head!r}")
            self.load.latencies.append((time.perf_counter() - self.due) * 1e6)
            self.load.idle.append(self)
            self.load.go_on()

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        print(f"a connection was lost: {error}", file=sys.stderr)


def schedule(seconds: float, rate: float, seed: int) -> list[tuple[float, bytes]]:
    """Return when requests are due, in seconds, and for what they ask."""
    chance = random.Random(seed)
    arrivals, due = [], 0.0
    while (due := due + chance.expovariate(rate)) < seconds:
        arrivals.append((due, b"/burn" if chance.random() < BURNING else b"/"))
    return arrivals


async def main(port: int, seconds: float, rate: float, count: int, seed: int) -> None:
    loop = asyncio.get_running_loop()
    load = Load()
    clients = [
        await loop.create_connection(lambda: Client(load), "127.0.0.1", port)
        for _ in range(count)
    ]
    arrivals = schedule(seconds, rate, seed)
    began = time.perf_counter()
    for due, path in arrivals:
        while time.perf_counter() < began + due:
            await asyncio.sleep(TURN)
        load.ask(began + due, path)
    while len(load.latencies) < len(arrivals):
        if time.perf_counter() > began + seconds + PATIENCE:
            sys.exit(f"{len(arrivals) - len(load.latencies)} answers are missing")
        await asyncio.sleep(TURN)
    print(json.dumps([round(latency) for latency in load.latencies]))
    for _, client in clients:
        client.transport.abort()


if __name__ == "__main__":
    uvloop.run(main(*map(int, sys.argv[1:])))  # type: ignore[arg-type]
