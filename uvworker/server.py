"""The uvicorn server inside one worker: start, serve, drain or quit, leave.

One rule: nobody waits here without a deadline once the server was told to stop. The
signals are the worker's; the server is told by :meth:`Server.drain` and
:meth:`Server.quit`, and everything else happens in :meth:`Server.serve`, in order.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import uvicorn

from .http.acceptor import Acceptor, Connections
from .http.opening import Opening
from .http.proxyproto import ProxyProtocol
from .http.tls import Certificates
from .lifespan import Lifespan, LifespanFailed

logger = logging.getLogger("uvicorn.error")

TICK = 1.0  # seconds between two refreshes of the date header
LOOK = 0.02  # seconds between two looks at what is still in flight

# The arbiter kills at exactly `graceful_timeout`. The reserve before it is for
# cancelling what still runs, the lifespan's shutdown, and the hooks.
RESERVE_SHARE, RESERVE_MOST = 0.25, 3.0  # of graceful_timeout; seconds
QUIT_TIMEOUT = 1.8  # seconds; gunicorn gives a quick shutdown two
CANCEL_WINDOW = 0.3  # seconds for cancelled requests to run their `finally`


class Stage(enum.Enum):
    """Where a server is in its life; each is reached at most once, in this order."""

    SERVING = enum.auto()
    DRAINING = enum.auto()  # accepts no more, finishes what it has
    LEAVING = enum.auto()  # nothing in flight: lifespan shutdown, then the end


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Until when each part of a stop may last, in seconds of the loop's clock."""

    accept: float  # new connections are still taken
    notice: float  # what is in flight may finish by itself; then it is told to
    requests: float  # what was told may finish; then it is cut
    lifespan: float  # the app may shut down
    process: float  # the process is gone, whatever still holds it

    @classmethod
    def drain(
        cls, now: float, graceful_timeout: float, drain_delay: float
    ) -> Deadlines:
        """Share gunicorn's ``graceful_timeout`` out, from *now*."""
        end = now + graceful_timeout
        reserve = min(RESERVE_MOST, graceful_timeout * RESERVE_SHARE)
        notice = end - 2 * reserve
        return cls(
            accept=min(now + drain_delay, notice),
            notice=notice,
            requests=end - reserve,
            lifespan=end - reserve / 4,
            process=end - reserve / 8,
        )

    @classmethod
    def quit(cls, now: float) -> Deadlines:
        """No time for requests, a little for the lifespan."""
        end = now + QUIT_TIMEOUT
        return cls(now, now, now, end - CANCEL_WINDOW, end)


class Server(uvicorn.Server):
    """One worker's server; constructed, told and served on one event loop.

    *graceful_timeout*: gunicorn's, seconds.
    *proxy_protocol*, *certificates*: for :class:`~uvworker.http.opening.Opening`.
    *on_connections*: called with the number of open connections when it changes.
    *on_stage*: called on the loop when a stage is reached.
    *on_stop*: called on the loop, once or twice, with the deadlines of the stop.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        lifespan: Lifespan,
        *,
        graceful_timeout: float,
        proxy_protocol: ProxyProtocol | None,
        certificates: Certificates | None,
        on_connections: Callable[[int], object],
        on_stage: Callable[[Stage], object],
        on_stop: Callable[[Deadlines], object],
    ) -> None:
        super().__init__(config)
        self.lifespan = lifespan
        self._opening = Opening(
            self._connection, proxy_protocol=proxy_protocol, certificates=certificates
        )
        self._graceful_timeout = graceful_timeout
        self._on_connections = on_connections
        self._on_stage = on_stage
        self._on_stop = on_stop
        self._told = asyncio.Event()
        self._take_backlog = False
        self._left = False
        self._deadlines: Deadlines | None = None
        self._acceptor: Acceptor
        self._listeners: list[socket.socket] = []
        self._count = 0  # open connections
        self._taking_leave: set[Any] = set()  # connections told that it is the end

    # How it is told

    def drain(self, *, delay: float = 0.0, take_backlog: bool = False) -> None:
        """Stop accepting, let requests finish within ``graceful_timeout``, leave.

        *delay*: seconds to go on accepting first.
        *take_backlog*: accept what waits in the backlog at last, because nobody else
        will: no sibling serves, or each worker has a backlog of its own.
        """
        if self._deadlines is None:
            self._take_backlog = take_backlog
            now, timeout = self._now(), self._graceful_timeout
            self._stop(Deadlines.drain(now, timeout, delay))

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
        if self.started and deadlines.accept <= self._now():
            self._take_leave()

    # Its life

    async def serve(
        self, sockets: list[socket.socket] | None = None, **acceptor: Any
    ) -> None:
        """Run the app's startup, serve on *sockets* until told, and leave cleanly.

        *acceptor*: further arguments of :class:`~uvworker.http.acceptor.Acceptor`.

        Returns when the app is shut down and no task is left. Raises
        :class:`~uvworker.lifespan.LifespanFailed` when the app does not start; a
        server that is told to stop before it started returns without a word.
        """
        self._listeners = sockets or []
        ticking = asyncio.ensure_future(self._tick())
        try:
            if await self._start_app():
                self._listen(acceptor)
                await self._told.wait()
                await self._until(lambda: False, lambda at: at.accept)
                self._take_leave()
                await self._drain()
            self._close_listeners()
            self._on_stage(Stage.LEAVING)
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
        elif (failure := starting.exception()) and not self._told.is_set():
            raise failure
        return not self._told.is_set()

    def _listen(self, further: dict[str, Any]) -> None:
        self.server_state.connections = connections = Connections(self._changed)
        self._acceptor = Acceptor(
            self._opening, self._listeners, connections=connections.__len__, **further
        )
        self._acceptor.resume()
        self.started = True
        self._on_stage(Stage.SERVING)

    def _changed(self, count: int) -> None:
        grown, self._count = count > self._count, count
        self._on_connections(count)
        self._acceptor.connection_closed()
        if grown and self._left:  # before a byte of it is read
            asyncio.get_running_loop().call_soon(self._dismissed)

    def _connection(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=asyncio.get_running_loop(),
        )

    async def _tick(self) -> None:
        while True:
            await self.on_tick(0)  # uvicorn's: the `date` and `server` headers
            await asyncio.sleep(TICK)

    def _take_leave(self) -> None:
        """Accept no more, and tell every connection; on the second call nothing.

        Within the request that reaches ``max_requests``, so that its own response is
        the last one of its connection.
        """
        if self._left:
            return
        self._left = True
        # Libraries for server-sent events (sse-starlette) replace uvicorn's method to
        # hear of this, and end their streams now rather than near the deadline.
        self.handle_exit(signal.SIGTERM, None)
        self._on_stage(Stage.DRAINING)
        self._acceptor.pause()
        if self._take_backlog:
            self._acceptor.drain_backlog()
        # At once: whoever connects between the two is reset.
        self._close_listeners()
        self._acceptor.close()
        self._dismissed()

    def _close_listeners(self) -> None:
        """Let go of the listeners, long before the process ends and does so itself.

        Whoever came to one that only a leaving process still holds would be reset,
        request and all, instead of refused.
        """
        for listener in self._listeners:
            listener.close()

    async def _drain(self) -> None:
        if not await self._until(self._dismissed, lambda at: at.notice):
            self._tell_all("disconnect")
            self._hang_up()
        if not await self._until(self._idle, lambda at: at.requests):
            await self._cut()

    def _dismissed(self) -> bool:
        """Tell whoever has not been told; whether nothing is left to wait for.

        At every look, because connections go on appearing: those that were accepted
        and not yet open, and WebSockets that were asked for on an open one.
        """
        for connection in self.server_state.connections - self._taking_leave:
            if not _in_handshake(connection):
                self._taking_leave.add(connection)
                connection.shutdown()
        return self._idle()

    async def _cut(self) -> None:
        tasks = self.server_state.tasks
        if tasks:
            logger.warning("Cancelling %d request(s) out of time.", len(tasks))
        self._tell_all("cut")
        for task in list(tasks):
            task.cancel()
        await _wait(lambda: not tasks, self._now() + CANCEL_WINDOW)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def _tell_all(self, word: str) -> None:
        """Call a method of every connection; uvicorn's own only know ``shutdown``."""
        for connection in list(self.server_state.connections):
            getattr(connection, word, lambda: None)()

    def _hang_up(self) -> None:
        """Cut the WebSockets whose clients do not answer the close frame.

        Until then ``websockets`` keeps the disconnect from the app.
        """
        for connection in self.server_state.connections & self._taking_leave:
            if _is_websocket(connection):
                connection.transport.abort()

    def _idle(self) -> bool:
        state = self.server_state
        return not (self._acceptor.open or state.connections or state.tasks)

    async def _stop_app(self) -> None:
        try:
            await self._bounded(self.lifespan.shutdown(), "lifespan shutdown")
        except LifespanFailed as failure:
            logger.error("%s", failure, exc_info=failure.__cause__)

    async def _leave(self) -> None:
        """Cancel what the app left running, and close its generators.

        Threads are left to the interpreter, which joins them at its exit and has the
        process's deadline: ``loop.shutdown_default_executor()`` joins them even when
        it is cancelled, so that one which never ends would come before `worker_exit`.
        """
        loop = asyncio.get_running_loop()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await _cancel(others)
        if self._deadlines is not None:
            await self._bounded(loop.shutdown_asyncgens(), "asynchronous generators")

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


def _is_websocket(connection: Any) -> bool:
    """Whether it is one of uvicorn's, by what `_in_handshake` asks of them."""
    names = "handshake_completed_event", "handshake_complete"
    return any(hasattr(connection, name) for name in names)


def _in_handshake(connection: Any) -> bool:
    """Whether it is a WebSocket that the app has not accepted yet.

    uvicorn answers 500 to one that is told then; accepted, it is closed with 1012.
    """
    shaken = getattr(connection, "handshake_completed_event", None)  # websockets'
    if shaken is not None:
        return not shaken.is_set()
    return not getattr(connection, "handshake_complete", True)


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CANCEL_WINDOW)


async def _wait(done: Callable[[], bool], deadline: float) -> None:
    loop = asyncio.get_running_loop()
    while not done() and loop.time() < deadline:
        await asyncio.sleep(LOOK)
