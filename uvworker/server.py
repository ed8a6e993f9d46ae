"""The uvicorn server inside one worker: start, serve, drain or quit, leave.

One rule: every wait has a deadline once the server stops. The worker handles signals
and calls :meth:`Server.drain` or :meth:`Server.quit`; everything else happens in
:meth:`Server.serve`, in order.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import uvicorn

from .accept.acceptor import Acceptor, Connections
from .accept.handshakes import Handshakes
from .accept.own_listener import open_all
from .accept.proxy_protocol import ProxyProtocol
from .accept.tls import Certificates
from .app.lifespan import Lifespan, LifespanFailed
from .process.children import ForkedTransport
from .process.loop import cancel, spawn
from .process.stop import CANCEL_WINDOW, Deadlines

logger = logging.getLogger("uvicorn.error")

TICK = 1.0  # seconds between two refreshes of the date header
POLL_PERIOD = 0.02  # seconds between two looks at what is still in flight


class Stage(enum.Enum):
    """A stage of a server's life; each is reached at most once, in this order."""

    SERVING = enum.auto()
    DRAINING = enum.auto()  # accepts no more, finishes what it has
    LEAVING = enum.auto()  # nothing in flight: lifespan shutdown, then the end


class Server(uvicorn.Server):
    """One worker's server; made and used on one event loop.

    *graceful_timeout*: gunicorn's, seconds.
    *proxy_protocol*, *certificates*: for `accept.handshakes.Handshakes`.
    *before_serving*: awaited once, when the app has started.
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
        before_serving: Callable[[], Coroutine[Any, Any, None]],
        on_connections: Callable[[int], object],
        on_stage: Callable[[Stage], object],
        on_stop: Callable[[Deadlines], object],
    ) -> None:
        super().__init__(config)
        self.lifespan = lifespan
        self._handshakes = Handshakes(
            self._connection, proxy_protocol=proxy_protocol, certificates=certificates
        )
        self._graceful_timeout = graceful_timeout
        self._before_serving = before_serving
        self._on_connections = on_connections
        self._on_stage = on_stage
        self._on_stop = on_stop
        self._stop_requested = asyncio.Event()
        self._take_backlog = False
        self._accepting_stopped = False
        self._deadlines: Deadlines | None = None
        self.acceptor: Acceptor  # once it has started
        self._listeners: list[socket.socket] = []
        self._count = 0  # open connections
        self._shutting_down: set[Any] = set()  # connections told to close

    # What the worker calls

    def drain(self, *, delay: float = 0.0, take_backlog: bool = False) -> None:
        """Stop accepting, let requests finish within ``graceful_timeout``, leave.

        *delay*: seconds to go on accepting first.
        *take_backlog*: accept what waits in the backlog in the end, because no other
        worker will: no sibling serves, or each worker has a backlog of its own.
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
        self._stop_requested.set()
        self._on_stop(deadlines)
        if self.started and deadlines.accept <= self._now():
            self._stop_accepting()

    def detach(self) -> None:
        """Take the clients from a process that the app forked: the parent answers."""
        for connection in self.server_state.connections:
            connection.transport = ForkedTransport()  # type: ignore[assignment]

    # Its life

    async def serve(
        self, sockets: list[socket.socket] | None = None, **acceptor: Any
    ) -> None:
        """Run the app's startup, serve on *sockets* until stopped, and leave cleanly.

        *acceptor*: further arguments of :class:`~uvworker.accept.acceptor.Acceptor`.

        Returns when the app is shut down and no task is left. Raises
        :class:`~uvworker.app.lifespan.LifespanFailed` when the app does not start; a
        server that is stopped before it started returns silently.
        """
        self._listeners = sockets or []
        ticking = spawn(self._tick())
        try:
            if await self._start_app():
                self._listen(acceptor)
                await self._stop_requested.wait()
                await self._until(lambda: False, lambda at: at.accept)
                self._stop_accepting()
                await self._drain()
            self._close_listeners()
            self._on_stage(Stage.LEAVING)
            await self._stop_app()
        finally:
            ticking.cancel()
            await self._leave()

    async def _start_app(self) -> bool:
        starting = spawn(self._prepare())
        stop = spawn(self._stop_requested.wait())
        await asyncio.wait([starting, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not starting.done():
            starting.cancel()
        elif (failure := starting.exception()) and not self._stop_requested.is_set():
            raise failure
        return not self._stop_requested.is_set()

    async def _prepare(self) -> None:
        await self.lifespan.startup()
        await self._before_serving()

    def _listen(self, further: dict[str, Any]) -> None:
        self.server_state.connections = connections = Connections(self._changed)
        self.acceptor = Acceptor(
            self._handshakes,
            self._listeners,
            connections=connections.__len__,
            **further,
        )
        open_all(self._listeners)
        self.acceptor.resume()
        self.started = True
        self._on_stage(Stage.SERVING)

    def _changed(self, count: int) -> None:
        grown, self._count = count > self._count, count
        self._on_connections(count)
        self.acceptor.connection_closed()
        if grown and self._accepting_stopped:  # before a byte of it is read
            asyncio.get_running_loop().call_soon(self._shut_down_connections)

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

    def _stop_accepting(self) -> None:
        """Stop accepting and let every connection close; a second call does nothing.

        Called within the request that reaches ``max_requests``, so that its response is
        the last one of its connection.
        """
        if self._accepting_stopped:
            return
        self._accepting_stopped = True
        # Libraries for server-sent events (sse-starlette) replace uvicorn's method, and
        # end their streams now rather than near the deadline.
        self.handle_exit(signal.SIGTERM, None)
        self._on_stage(Stage.DRAINING)
        self.acceptor.pause()
        if self._take_backlog:
            self.acceptor.drain_backlog()
        # At once: a client that connects between the two is reset.
        self._close_listeners()
        self.acceptor.close()
        self._shut_down_connections()

    def _close_listeners(self) -> None:
        """Close the listeners now, long before the process ends.

        If only leaving processes hold a listener, its clients are reset after they have
        sent a request; closed, it refuses them at once.
        """
        for listener in self._listeners:
            listener.close()

    async def _drain(self) -> None:
        if not await self._until(self._shut_down_connections, lambda at: at.notice):
            self._call_all("disconnect")
            self._abort_websockets()
        if not await self._until(self._idle, lambda at: at.requests):
            await self._cut()

    def _shut_down_connections(self) -> bool:
        """Tell new connections to close; return whether nothing is left to wait for.

        Called again and again, because connections still appear: those accepted but not
        yet open, and WebSockets that replace an open one.
        """
        for connection in self.server_state.connections - self._shutting_down:
            if not _in_handshake(connection):
                self._shutting_down.add(connection)
                connection.shutdown()
        return self._idle()

    async def _cut(self) -> None:
        tasks = self.server_state.tasks
        if tasks:
            logger.warning(
                "Cancelling %d request(s): they did not end in time.", len(tasks)
            )
        self._call_all("cut")
        for task in list(tasks):
            task.cancel()
        await _wait(lambda: not tasks, self._now() + CANCEL_WINDOW)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def _call_all(self, method: str) -> None:
        """Call a method of every connection; uvicorn's have only ``shutdown``."""
        for connection in list(self.server_state.connections):
            getattr(connection, method, lambda: None)()

    def _abort_websockets(self) -> None:
        """Cut the WebSockets whose clients do not answer the close frame.

        Until then ``websockets`` does not send the disconnect to the app.
        """
        for connection in self.server_state.connections & self._shutting_down:
            if _is_websocket(connection):
                connection.transport.abort()

    def _idle(self) -> bool:
        state = self.server_state
        return not (self.acceptor.open or state.connections or state.tasks)

    async def _stop_app(self) -> None:
        try:
            await self._bounded(self.lifespan.shutdown(), "lifespan shutdown")
        except LifespanFailed as failure:
            logger.error("%s", failure, exc_info=failure.__cause__)

    async def _leave(self) -> None:
        """Cancel the tasks that the app left running, and close its generators.

        The interpreter joins threads at its exit, within the process's deadline.
        ``loop.shutdown_default_executor()`` would join them here, even when it is
        cancelled, and a thread that never ends would keep `worker_exit` from running.
        """
        loop = asyncio.get_running_loop()
        await cancel(asyncio.all_tasks() | self.lifespan.tasks, CANCEL_WINDOW)
        if self._deadlines is not None:
            await self._bounded(loop.shutdown_asyncgens(), "asynchronous generators")

    async def _bounded(self, ending: Coroutine[Any, Any, None], name: str) -> None:
        task = spawn(ending)
        if not await self._until(task.done, lambda at: at.lifespan):
            task.cancel()
            logger.warning("Leaving: %s did not end in time.", name)
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
            await asyncio.sleep(POLL_PERIOD)
        return done()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _is_websocket(connection: Any) -> bool:
    """Whether it is a WebSocket of uvicorn's, by the attributes that it has."""
    names = "handshake_completed_event", "handshake_complete"
    return any(hasattr(connection, name) for name in names)


def _in_handshake(connection: Any) -> bool:
    """Whether it is a WebSocket that the app has not accepted yet.

    uvicorn's ``shutdown`` answers 500 then; once accepted, it closes with 1012.
    """
    shaken = getattr(connection, "handshake_completed_event", None)  # websockets'
    if shaken is not None:
        return not shaken.is_set()
    return not getattr(connection, "handshake_complete", True)


async def _wait(done: Callable[[], bool], deadline: float) -> None:
    loop = asyncio.get_running_loop()
    while not done() and loop.time() < deadline:
        await asyncio.sleep(POLL_PERIOD)
