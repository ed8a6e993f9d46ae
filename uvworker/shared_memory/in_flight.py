"""The requests in flight, in shared memory: it shows them when their worker cannot.

One anonymous ``mmap``, a table of rows for each worker id. A sibling reads it for an
operator. When a worker is killed or crashes, its rows remain, and the arbiter logs what
it was doing. The rules: a table has one writer, the worker with its id; and it has room
for `ROWS` requests, so that neither memory nor a report grows with the load.

Only if `ops_requests` is set: a request costs 0.9 µs more.
"""

from __future__ import annotations

import mmap
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, TypeAlias

from .scoreboard import Scoreboard, WorkerView

App: TypeAlias = Callable[..., Awaitable[object]]

ROWS = 64  # of a worker; further requests are counted elsewhere, and not listed
NAMED = 10  # in a log line

# A request: its method and its path, each cut to fit behind its length, then when it
# began. The time is written last, and is 0 where there is no request.
ROW = Struct("=16p232pd")
BEGAN = ROW.size // 8 - 1  # word of a row


@dataclass(frozen=True, slots=True)
class Request:
    """One request: *path* as it was sent, without the query; *age* in seconds."""

    method: str
    path: str
    age: float

    def __str__(self) -> str:
        return f"{self.method} {self.path!r} for {self.age:.1f} s"


class RequestTable:
    """The tables of all workers. Construct it in the arbiter, before the fork.

    *workers*: how many there can be at a time; unused tables take no memory.
    """

    def __init__(self, workers: int) -> None:
        self._memory = memoryview(mmap.mmap(-1, workers * ROWS * ROW.size))

    def register(self, worker_id: int) -> Register:
        """Return the writing end of a worker's table; call it in the worker."""
        self.clear(worker_id)  # of one that died after the last report
        return Register(self._of(worker_id))

    def read(self, worker_id: int, now: float | None = None) -> list[Request]:
        """Return the requests of a worker, the oldest first.

        *now*: ``time.monotonic()``, or None to look at the clock.
        """
        now = time.monotonic() if now is None else now
        table = self._of(worker_id)
        rows = list(ROW.iter_unpack(table.tobytes()))
        # A row whose time has changed since may have been copied in mid-write.
        still = table.cast("d")[BEGAN :: BEGAN + 1].tolist()
        found = [
            Request(method.decode("latin-1"), path.decode("latin-1"), now - began)
            for (method, path, began), began_still in zip(rows, still, strict=True)
            if began and began == began_still
        ]
        return sorted(found, key=lambda request: -request.age)

    def clear(self, worker_id: int) -> None:
        """Forget the requests of a worker that has ended."""
        table = self._of(worker_id)
        table[:] = bytes(len(table))

    def _of(self, worker_id: int) -> memoryview:
        size = ROWS * ROW.size
        return self._memory[worker_id * size :][:size]


class Register:
    """The writing end of one worker's table."""

    def __init__(self, table: memoryview) -> None:
        self._table = table
        self._words = table.cast("d")
        self._free = list(range(ROWS))

    def detach(self) -> None:
        """Write to private memory from now on; in a process that the app forks."""
        self._table = memoryview(bytearray(self._table))
        self._words = self._table.cast("d")

    def listing(self, app: App) -> App:
        """Return *app*, listing its HTTP requests for as long as it runs.

        A WebSocket is not listed: it can stay for days, and would hide the requests.
        """
        free, write, clock = self._free, ROW.pack_into, time.monotonic

        async def list_(scope: Any, receive: Any, send: Any) -> object:
            if not free:
                return await app(scope, receive, send)
            row = free.pop()
            method, path = scope["method"].encode(), scope["raw_path"]
            write(self._table, row * ROW.size, method, path, clock())
            try:
                return await app(scope, receive, send)
            finally:
                self._words[row * (BEGAN + 1) + BEGAN] = 0.0
                free.append(row)

        def listed(scope: Any, receive: Any, send: Any) -> Awaitable[object]:
            if scope["type"] == "http":
                return list_(scope, receive, send)
            return app(scope, receive, send)

        return listed


def report_dead(table: RequestTable, board: Scoreboard, log: Any) -> None:
    """Log what dead workers were doing; in the arbiter, before it reuses their slots.

    A worker that left in order has no request in flight.
    """
    for worker in board.workers():
        if worker.pid and not worker.alive:
            if requests := table.read(worker.id):
                log.error(
                    "Worker %d (pid %d) %s with %d request(s) in flight: %s.",
                    worker.id,
                    worker.pid,
                    _end_of(worker),
                    len(requests),
                    _named(requests),
                )
            table.clear(worker.id)


def _end_of(worker: WorkerView) -> str:
    if not worker.signal:
        return "has ended"
    try:
        return f"was killed by {signal.Signals(worker.signal).name}"
    except ValueError:  # a real-time signal
        return f"was killed by signal {worker.signal}"


def _named(requests: Sequence[Request]) -> str:
    more = len(requests) - NAMED
    named = ", ".join(map(str, requests[:NAMED]))
    return f"{named}, and {more} more" if more > 0 else named
