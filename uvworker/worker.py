"""The worker class that gunicorn gets: the worker on its event loop.

Its part in the arbiter is `configured`, its part before the loop `booting`. The rule:
here stands only what each stage, each beat and each signal calls.
"""

from __future__ import annotations

import asyncio
import functools
import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from .accept import tls
from .accept.own_listener import HANDSHAKE, turn_away
from .app.checks import Checks
from .app.error_page import stand_in
from .app.interface import NotServable
from .app.lifespan import Lifespan, LifespanFailed
from .assembly import Assembly, Parts, assemble
from .booting import BootingWorker
from .diagnosis.slow_requests import SlowRequests
from .diagnosis.stalls import StallWatch
from .machine import shortages
from .process import children, heartbeat, signals
from .process.app_exit import AppExit
from .process.loop import cancel, keep_threads, spawn
from .process.retirement import Retirement
from .process.stop import CANCEL_WINDOW, Deadlines
from .server import Server, Stage
from .shared_memory.history import Exit
from .shared_memory.scoreboard import State

STATES = {Stage.DRAINING: State.DRAINING, Stage.LEAVING: State.LEAVING}


class Worker(BootingWorker):
    """Gunicorn worker class: serves an ASGI app with uvicorn.

    ``gunicorn -k uvworker.Worker -w 4 main:app``

    A subclass may set ``CONFIG_KWARGS``, arguments of ``uvicorn.Config`` that no
    gunicorn setting reaches, as with ``uvicorn.workers.UvicornWorker``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._assembly: Assembly | None = None
        self._app_exit = AppExit(self._slot, self._leave_early, self.log)
        self._interrupted = False
        self._checks: Checks | None = None
        self._beat_at = math.inf  # no beat is late before the first one
        self._worst_lag = heartbeat.Worst()

    # In the worker, after the import of the app

    def run(self) -> None:
        """Serve until stopped, then leave; the last call of ``init_process``."""
        children.exit_if_child()  # of the import
        self._watch_certificates()
        try:
            self._run_app()
        except (LifespanFailed, NotServable) as failure:
            if not self.cfg.reload:
                raise
            self._handle_boot_signals()  # the loop that ended left TERM ignored
            self.wsgi = stand_in(failure, self.reloader, self.log)
            self._run_app()

    def _run_app(self) -> None:
        self._settle_logs()  # the app was imported
        self._loop = (self._loop_factory() or asyncio.new_event_loop)()
        asyncio.set_event_loop(self._loop)
        try:
            self._app_exit.run(self._loop, self._until_left())
        finally:
            self._access_log.flush()
        self._loop.close()

    def _loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop] | None:
        """Assemble what to serve with, and return the factory of its loop."""
        self._assembly = self._assemble()
        return self._assembly.config.get_loop_factory()

    def _assemble(self) -> Assembly:
        tally = self._worker_report.tally if self._worker_report else None
        probes = self._observation.probes(
            root=self._settings.root_path,
            ready=self._options.ready_path,
            live=self._options.live_path,
        )
        return assemble(
            Parts(self.wsgi, self, self.log, self._access_log, tally, probes),
            self._settings,
            self._options,
            self._certificates,
            self._count,
        )

    def _count(self, app: Any) -> Any:
        if self._recycling.counts:
            app = self._recycling.counted(app, self._limit_reached)
        return app if self._register is None else self._register.listing(app)

    def _limit_reached(self) -> None:
        self._retirement.check()

    # On the loop

    async def _until_left(self) -> None:
        """Serve and leave; the loop turns as long as this runs."""
        main = asyncio.current_task()
        assert main is not None
        keeping = spawn(keep_threads(main))
        try:
            await self._serve()
        finally:
            keeping.cancel()

    async def _serve(self) -> None:
        assert self._assembly is not None
        assert self._stacks is not None
        loop, assembly = asyncio.get_running_loop(), self._assembly
        config = assembly.config
        pulse = heartbeat.Heartbeat(self._beat, self.cfg.timeout, self._stacks)
        lifespan = Lifespan(
            children.ending(config.loaded_app),
            config.lifespan,
            config.asgi_version,
            spawn,
            lost=functools.partial(self._problems.set, "lifespan"),
        )
        lifespan.state["worker_id"] = self._slot.id
        self._server = Server(
            config,
            lifespan,
            graceful_timeout=self._settings.graceful_timeout,
            proxy_protocol=assembly.proxy_protocol,
            certificates=self._certificates,
            before_serving=self._check_first,
            on_connections=functools.partial(setattr, self._slot, "connections"),
            on_stage=self._reached,
            on_stop=functools.partial(self._stopping, pulse),
        )
        self._retirement = Retirement(
            self._board,
            self._slot,
            self._recycling,
            drain=self._drain,
            report=functools.partial(self._problems.set, "limit"),
            log=self.log,
        )
        handlers = signals.loop_handlers(
            loop,
            drain=self._terminate,
            quit_=self._interrupt,
            reopen=self._reopen,
        )
        self._stalls = self._watch_stalls(loop)
        self._checks = self._run_checks()
        with pulse.beating(loop), handlers, self._watch_requests(loop):
            loop.add_reader(self.PIPE[0], self._quit_by_reloader)
            await self._server.serve(
                [listener.sock for listener in self.sockets],
                balance=self._siblings,
                ceiling=self._settings.worker_connections,
            )
            if self._checks is not None:
                await cancel(self._checks.tasks, CANCEL_WINDOW)
            loop.remove_reader(self.PIPE[0])
        if self._stalls is not None:
            self._stalls.stop()

    def _watch_stalls(self, loop: asyncio.AbstractEventLoop) -> StallWatch | None:
        seconds = self._options.stall_warning
        if seconds is None:
            return None
        return StallWatch(loop, seconds, log=self.log)

    def _watch_requests(
        self, loop: asyncio.AbstractEventLoop
    ) -> AbstractContextManager[None]:
        seconds = self._options.slow_request
        if seconds is None:
            return nullcontext()
        tasks = self._running.server_state.tasks
        return SlowRequests(tasks, seconds, self.log).watching(loop)

    def _run_checks(self) -> Checks | None:
        """Run the app's checks if anybody can ask for their results."""
        if self._worker_report is None and self._options.ready_path is None:
            return None
        return Checks(spawn, returned=children.exit_if_child, report=self._checked)

    async def _check_first(self) -> None:
        if self._checks is not None:
            await self._checks.first(heartbeat.clock())

    def _checked(self, name: str, failure: str) -> None:
        assert self._checks is not None
        if failure:
            self.log.warning("The check %r fails: %s", name, failure)
            failure = f"the check {name!r} fails: {failure}"
        else:
            self.log.info("The check %r is well again.", name)
        self._problems.set(f"check {name}", failure)
        self._slot.unhealthy = bool(self._checks.failing)

    def _reached(self, stage: Stage) -> None:
        if stage is Stage.SERVING:
            signals.take_back()  # the app has started
            self._settle_logs()
            self._access_log.settle()
            # Logged first: a sibling that waits for this may log at once that it
            # leaves.
            self.log.info("Application startup complete (worker %d).", self._slot.id)
            self._problems.publish()  # a boot that failed before is over
            self._boot.done()
            if self.age == self.shared().generations.current.first_age:
                self._warn_of_memory()
            if self._statsd is not None:
                self._statsd.booted(self._slot.boot_seconds)
            if self._worker_report is not None:
                self._worker_report.serve(self._running.acceptor, self._stalls)
            if self._stalls is not None:
                with signals.kept_for_main_thread():
                    self._stalls.start()
        else:
            self._slot.state = STATES[stage]
            if self._checks is not None:
                self._checks.stop()

    def _warn_of_memory(self) -> None:
        preload = self.cfg.preload_app
        if sentence := shortages.memory(self.cfg.workers, preload=preload):
            self.log.warning("%s", sentence)

    def _stopping(self, pulse: heartbeat.Heartbeat, deadlines: Deadlines) -> None:
        self.alive = False
        pulse.end_by(deadlines.process, asyncio.get_running_loop().time())

    def _beat(self) -> None:
        children.exit_if_child()
        now = heartbeat.clock()
        self.notify()
        signals.take_back()
        lag = max(now - self._beat_at - heartbeat.period(self.cfg.timeout), 0.0)
        self._slot.beat(now, lag, self._worst_lag.add(now, lag))
        self._beat_at = now
        self._siblings.refresh(now)
        if self._running.started:
            report = self._worker_report
            websockets = report.tally.websockets if report else 0
            tasks = len(self._running.server_state.tasks)
            # An open WebSocket has a task too; one that is closed may have none.
            self._slot.requests_in_flight = max(tasks - websockets, 0)
            self._slot.requests_done = self._running.server_state.total_requests
            self._retirement.check()
            self._renew_certificates()
            if self._statsd is not None:
                self._statsd.report(now, self._slot.id)
            if self._checks is not None:
                self._checks.run_due(now)
        if self.alive and heartbeat.orphaned(self.ppid):
            self.log.warning(
                "The arbiter (pid %s) is gone; worker %d leaves.",
                self.ppid,
                self._slot.id,
            )
            self._slot.exit = Exit.ORPHANED
            self._retirement.leave()

    def _watch_certificates(self) -> None:
        hidden = self._certificates.watch() if self._certificates else None
        if hidden is not None:
            uid = os.geteuid()
            self.log.info("uid %d may not read %s; send HUP to renew it.", uid, hidden)

    def _renew_certificates(self) -> None:
        if self._certificates is None:
            return
        try:
            if self._certificates.refresh():
                self._slot.certificate = self._certificates.expires or 0
                self.log.info("The renewed certificate is in use.")
        except tls.TLSError as error:
            self.log.error("The old certificate stays in use: %s", error)

    # Signals, on the loop

    def _terminate(self) -> None:
        """Handle TERM; the app may still start, as a task of this loop."""
        if not self._running.started:
            self._close_listeners()
        self._retirement.terminate()

    def _leave_early(self) -> None:
        self._retirement.leave()

    def _drain(self, nobody_else: bool, wait: float) -> None:
        delay = wait + (self._options.drain_delay if nobody_else else 0.0)
        if self._own_listeners:
            asyncio.get_running_loop().call_later(delay, turn_away, self.sockets)
            delay += HANDSHAKE
        self._running.drain(
            delay=delay, take_backlog=nobody_else or self.cfg.reuse_port
        )

    def _interrupt(self) -> None:
        """Handle INT or QUIT; after Ctrl-C in a terminal both come."""
        if not self._interrupted:
            self._interrupted = True
            self._slot.exit = Exit.QUIT
            self._running.quit()
            self.cfg.worker_int(self)

    def _quit_by_reloader(self) -> None:
        """Leave when the reloader's thread asks for it; it has run ``worker_int``."""
        os.read(self.PIPE[0], 1)
        self._slot.exit = Exit.QUIT
        self._running.quit()

    def _reopen(self) -> None:
        """Handle USR1: write buffered lines to the old files, then reopen them."""
        self._access_log.flush()
        super()._reopen()

    @property
    def _running(self) -> Server:
        assert self._server is not None
        return self._server


class H11Worker(Worker):
    """A worker without compiled parts: h11 on asyncio's own loop."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"http": "h11", "loop": "asyncio"}
