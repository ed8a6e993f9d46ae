"""The thread of each worker that serves the operator's listener, with its own loop.

It starts before the app is imported and ends after the app has shut down, so that it
answers while the app boots, blocks its loop, drains, or waits after a failed boot. The
threads of all workers share one listener: whichever is free accepts a connection, and
answers for all workers, from shared memory. A worker whose interpreter is blocked by C
code does not accept, and leaves the connection to a sibling. Each connection is closed
after its answer, so that none stays with a worker that leaves.

The rule: nothing here can block the worker. The thread is a daemon, and its end has a
time limit.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from .relay import Relay

PERIOD = 1.0  # seconds between two samples
STOP_TIMEOUT = 1.0  # seconds to finish the answers in flight
START_TIMEOUT = 5.0  # seconds for the thread to start listening

Protocol = Callable[[asyncio.AbstractEventLoop], tuple[Any, Callable[[], bool]]]


class ServerThread:
    """Serves *listener*; constructed, started and stopped in the worker.

    *protocol*: called on the thread with its loop; returns a protocol factory, and a
    function that returns whether a connection is open.
    *relay*: answers siblings.
    *sample*: called once a second, also while the app's loop is blocked.
    *leave*: called when the thread stops, to end answers that would go on.
    """

    def __init__(
        self,
        listener: socket.socket,
        protocol: Protocol,
        relay: Relay,
        *,
        sample: Callable[[], object],
        leave: Callable[[], object],
    ) -> None:
        self._listener = listener
        self._protocol = protocol
        self._relay = relay
        self._sample = sample
        self._end_answers = leave
        self._loop = asyncio.SelectorEventLoop()
        self._leave = asyncio.Event()
        self._listening = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="uvworker-operations", daemon=True
        )

    def start(self) -> None:
        """Start the thread, and wait until it listens."""
        self._thread.start()
        self._listening.wait(START_TIMEOUT)

    @property
    def listeners(self) -> list[socket.socket]:
        """Where operators and siblings ask."""
        own = self._relay.listener
        return [self._listener] if own is None else [self._listener, own]

    def stop(self) -> None:
        """Stop accepting, and wait `STOP_TIMEOUT` for the answers in flight."""
        self._loop.call_soon_threadsafe(self._leave.set)
        if self._thread.ident is not None:
            self._thread.join(2 * STOP_TIMEOUT)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        factory, busy = self._protocol(self._loop)
        # A copy, because closing the server closes it.
        listener = self._listener.dup()
        server = await self._loop.create_server(factory, sock=listener)
        relay = await self._relay.serve()
        self._listening.set()
        await self._sample_until_leaving()
        self._end_answers()
        # A server that is closed here drops what it has accepted in this turn.
        self._loop.remove_reader(listener)
        deadline = self._loop.time() + STOP_TIMEOUT
        if accepted := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(accepted, timeout=STOP_TIMEOUT)
        while busy() and self._loop.time() < deadline:
            await asyncio.sleep(STOP_TIMEOUT / 100)
        server.close()
        if relay is not None:
            relay.close()

    async def _sample_until_leaving(self) -> None:
        leaving = asyncio.ensure_future(self._leave.wait())
        while not leaving.done():
            self._sample()
            await asyncio.wait([leaving], timeout=PERIOD - time.monotonic() % PERIOD)
