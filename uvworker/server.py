"""The uvicorn server inside one worker: start, serve, drain or quit, leave.

One rule: nobody waits here without a deadline once the server was told to stop. The
signals are the worker's; the server is told by :meth:`Server.drain` and
:meth:`Server.quit`, and everything else happens in :meth:`Server.serve`, in order.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import uvicorn

from .lifespan import Lifespan, LifespanFailed

logger = logging.getLogger("uvicorn.error")

TICK = 1.0  # seconds between two refreshes of the date header
LOOK = 0.02  # seconds between two looks at what is still in flight

# The arbiter kills at exactly `graceful_timeout`. The reserve before it is for
# cancelling what still runs, the lifespan's shutdown, and the hooks.
RESERVE_SHARE, RESERVE_MOST = 0.25, 3.0  # of graceful_timeout; seconds
QUIT_TIMEOUT = 1.8  # seconds; gunicorn gives a quick shutdown two
CANCEL_WINDOW = 0.3  # seconds for cancelled requests to run their `finally`


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Until when each part of a stop may last, in seconds of the loop's clock."""

    requests: float  # what is in flight may finish
    lifespan: float  # the app may shut down
    process: float  # the process is gone, whatever still holds it

    @classmethod
    def drain(cls, now: float, graceful_timeout: float) -> Deadlines:
        """Share gunicorn's ``graceful_timeout`` out, from *now*."""
        end = now + graceful_timeout
        reserve = min(RESERVE_MOST, graceful_timeout * RESERVE_SHARE)
        return cls(end - reserve, end - reserve / 4, end - reserve / 8)

    @classmethod
    def quit(cls, now: float) -> Deadlines:
        """No time for requests, a little for the lifespan."""
        end = now + QUIT_TIMEOUT
        return cls(now, end - CANCEL_WINDOW, end)


class Server(uvicorn.Server):
    """One worker's server; constructed, told and served on one event loop.

    *graceful_timeout*: gunicorn's, seconds.
    *on_stop*: called once or twice, on the loop, with the deadlines of the stop.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        lifespan: Lifespan,
        *,
        graceful_timeout: float,
        on_stop: Callable[[Deadlines], object],
    ) -> None:
        super().__init__(config)
        self.lifespan = lifespan
        self._graceful_timeout = graceful_timeout
        self._on_stop = on_stop
        self._told = asyncio.Event()
        self._deadlines: Deadlines | None = None

    # How it is told

    def drain(self) -> None:
        """Stop accepting, let requests finish within ``graceful_timeout``, leave."""
        if self._deadlines is None:
            self._stop(Deadlines.drain(self._now(), self._graceful_timeout))

    def quit(self) -> None:
        """Cancel what is in flight and leave in two seconds, also while draining."""
        if not self.force_exit:
            self.force_exit = True
            self._stop(Deadlines.quit(self._now()))

    def _stop(self, deadlines: Deadlines) -> None:
        self.should_exit = True  # uvicorn's name for it, which its protocols may read
        self._deadlines = deadlines
        self._told.set()
        self._on_stop(deadlines)

    # Its life

    async def serve(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Run the app's startup, serve on *sockets* until told, and leave cleanly.

        Returns when the app is shut down and no task is left. Raises
        :class:`~uvworker.lifespan.LifespanFailed` when the app does not start; a
        server that is told to stop before it started returns without a word.
        """
        ticking = asyncio.ensure_future(self._tick())
        try:
            if await self._start_app():
                await self._listen(sockets or ())
                await self._told.wait()
                await self._drain()
                await self._stop_app()
        finally:
            ticking.cancel()
            await self._leave()

    async def _start_app(self) -> bool:
        starting = asyncio.ensure_future(self.lifespan.startup())
        told = asyncio.ensure_future(self._told.wait())
        await asyncio.wait([starting, told], return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not starting.done():
            starting.cancel()
            return False
        starting.result()
        return not self._told.is_set()

    async def _listen(self, sockets: Sequence[socket.socket]) -> None:
        loop = asyncio.get_running_loop()

        def connection(
            _loop: asyncio.AbstractEventLoop | None = None,
        ) -> asyncio.Protocol:
            return self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
                _loop=_loop,
            )

        self.servers = [
            await loop.create_server(
                connection, sock=sock, ssl=self.config.ssl, backlog=self.config.backlog
            )
            for sock in sockets
        ]
        self.started = True
        logger.info("Application startup complete.")

    async def _tick(self) -> None:
        while True:
            await self.on_tick(0)  # uvicorn's: the `date` and `server` headers
            await asyncio.sleep(TICK)

    async def _drain(self) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if not await self._until(self._idle, lambda at: at.requests):
            await self._cut()

    async def _cut(self) -> None:
        tasks = self.server_state.tasks
        if tasks:
            logger.warning("Cancelling %d request(s) out of time.", len(tasks))
        for task in list(tasks):
            task.cancel()
        await _wait(lambda: not tasks, self._now() + CANCEL_WINDOW)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def _idle(self) -> bool:
        return not self.server_state.connections and not self.server_state.tasks

    async def _stop_app(self) -> None:
        try:
            await self._bounded(self.lifespan.shutdown(), "lifespan shutdown")
        except LifespanFailed as failure:
            logger.error(
                "Application shutdown failed: %s", failure, exc_info=failure.__cause__
            )

    async def _leave(self) -> None:
        """Cancel what the app left running, and close generators and threads."""
        loop = asyncio.get_running_loop()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=CANCEL_WINDOW)
        if self._deadlines is not None:
            await self._bounded(loop.shutdown_asyncgens(), "asynchronous generators")
            await self._bounded(loop.shutdown_default_executor(), "executor threads")

    async def _bounded(self, ending: Awaitable[None], name: str) -> None:
        task = asyncio.ensure_future(ending)
        if not await self._until(task.done, lambda at: at.lifespan):
            task.cancel()
            logger.warning("Left without waiting longer for %s.", name)
            return
        task.result()

    async def _until(
        self, done: Callable[[], bool], deadline: Callable[[Deadlines], float]
    ) -> bool:
        """Wait for *done* until a deadline, which a later ``quit()`` brings forward."""

        def over() -> bool:
            assert self._deadlines is not None
            return done() or self._now() >= deadline(self._deadlines)

        while not over():
            await asyncio.sleep(LOOK)
        return done()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def _wait(done: Callable[[], bool], deadline: float) -> None:
    loop = asyncio.get_running_loop()
    while not done() and loop.time() < deadline:
        await asyncio.sleep(LOOK)
