"""The doorway that gunicorn calls. It wires the rooms in lifecycle order.

With `configured`, its half in the arbiter, the only room that imports gunicorn; with
`assembly` the only one that knows all others. What it decides itself is short: what
each call and each signal sets off.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from typing import Any, ClassVar, NoReturn

from gunicorn import glogging, util
from gunicorn.errors import AppImportError
from gunicorn.instrument import statsd

from .assembly import Assembly, NotServable, Parts, assemble
from .config import settings
from .config.report import Refused, report
from .config.sources import OptionError
from .configured import ConfiguredWorker
from .http import tls
from .http.accesslog import LoggerKind
from .lifespan import Lifespan, LifespanFailed
from .process import exits, heartbeat, logs, signals
from .process.boot import Boot
from .process.recycling import Recycling
from .process.retirement import Retirement
from .process.scoreboard import Scoreboard, State
from .process.siblings import Siblings
from .reload import stand_in
from .server import Deadlines, Server, Stage

# Failures that say all there is to say in their own words.
PLAIN = (
    AppImportError,
    LifespanFailed,
    NotServable,
    OptionError,
    Refused,
    tls.TLSError,
)

STATES = {Stage.DRAINING: State.DRAINING, Stage.LEAVING: State.LEAVING}


class Worker(ConfiguredWorker):
    """Gunicorn worker class: serves an ASGI app with uvicorn.

    ``gunicorn -k uvworker.Worker -w 4 main:app``

    A subclass may set ``CONFIG_KWARGS``, arguments of ``uvicorn.Config`` that no
    gunicorn setting reaches, as with ``uvicorn.workers.UvicornWorker``.
    """

    # What all workers of an arbiter share; made by the first one, before its fork.
    _board: ClassVar[Scoreboard | None] = None
    _halt_token: ClassVar[exits.HaltToken]

    # In the arbiter, before the fork

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if Worker._board is None:
            Worker._board = Scoreboard()
            Worker._halt_token = exits.HaltToken()
            signals.watch_forks()
        self._slot = Worker._board.claim(self.age)
        self._siblings = Siblings(Worker._board, self._slot)
        self._boot = Boot(
            Worker._board,
            self._slot,
            Worker._halt_token,
            plain=PLAIN,
            wait=self._wait,
            log=self.log,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: Server | None = None
        self._interrupted = False

    # On both sides of the fork

    @property
    def pid(self) -> int | str:
        """The process, or ``"[booting]"`` before the fork; gunicorn sets it."""
        return self._pid

    @pid.setter
    def pid(self, pid: int | str) -> None:
        self._pid = pid
        if isinstance(pid, int):
            self._slot.occupy(pid)
        if pid == os.getpid():
            # The first that happens in the worker. The arbiter's handlers, inherited
            # by the fork, would swallow a TERM, and a stop tells only once.
            self.init_signals()

    # In the worker, after the fork, before the loop

    def init_process(self) -> None:
        """Boot and serve; every failure before the first request ends here."""
        os.environ["UVWORKER_ID"] = str(self._slot.id)
        util._setproctitle(  # noqa: SLF001  what the arbiter calls, in all versions
            f"worker {self._slot.id} [{self.cfg.proc_name}]"
        )
        logs.enable()
        try:
            self._prepare()
            self._take_group()
            super().init_process()
        except exits.Leaving:
            raise
        except BaseException as failure:  # also an interrupt that the app raised
            if self._server is not None and self._server.started:
                raise
            self.init_signals()  # a loop that has ended left TERM ignored
            if self._slot.told or not self.alive:
                exits.leave(exits.CLEAN)
            not_loaded = isinstance(failure, (AppImportError, NotServable))
            self._boot.fail(
                failure, exits.APP_NOT_LOADED if not_loaded else exits.BOOT_FAILED
            )

    def _wait(self, seconds: float) -> None:
        """Wait where no loop turns, and be seen alive."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.notify()
            time.sleep(min(left, heartbeat.period(self.cfg.timeout)))

    def _prepare(self) -> None:
        """Read what to do, and what only the arbiter's user may read."""
        os.environ.update(self.cfg.env)
        self._options = options = self._resolve()
        self._settings = settings.translate(self.cfg, options)
        report(self.cfg, options).enforce()
        self._boot.hold()
        self._boot.watch(options.boot_timeout)
        self._recycling = Recycling(
            max_requests=self._settings.max_requests,
            max_requests_jitter=self._settings.max_requests_jitter,
            max_rss=options.max_rss,
            max_lifetime=options.max_lifetime,
            max_lifetime_jitter=options.max_lifetime_jitter,
        )
        # Before gunicorn changes the user: the key is often root's alone.
        self._certificates = self._load_certificates()

    def _take_group(self) -> None:
        """Take the group; with ``initgroups``, gunicorn takes only the other ones."""
        if self.cfg.initgroups and self.cfg.gid != os.getegid():
            os.setgid(self.cfg.gid)

    def _load_certificates(self) -> tls.Certificates | None:
        told, password = self._settings, self._options.ssl_keyfile_password
        if not settings.speaks_tls(self.cfg):
            return None
        files = tls.Files(told.certfile, told.keyfile, told.ca_certs)
        default = functools.partial(
            tls.default_context,
            files,
            password=password,
            cert_reqs=self.cfg.cert_reqs,
            ciphers=self.cfg.ciphers,
            alpn_protocols=settings.alpn_protocols(told),
        )
        return tls.Certificates(lambda: self.cfg.ssl_context(self.cfg, default), files)

    def init_signals(self) -> None:
        """Install the handlers of the boot."""
        signals.install_boot_handlers(
            leave=self._leave_boot,
            interrupt=self._interrupt_boot,
            reopen=self.log.reopen_files,
            abort=self._abort,
        )

    def load_wsgi(self) -> None:
        """Import the app; with ``--reload``, a page takes the place of a broken one."""
        try:
            self.wsgi = self.app.wsgi()
        except Exception as failure:
            if not self.cfg.reload:
                raise
            self.wsgi = stand_in(failure, self.reloader, self.log)

    def run(self) -> None:
        """Serve until told to stop, then leave; the last call of ``init_process``."""
        self._watch_certificates()
        try:
            self._run_app()
        except (LifespanFailed, NotServable) as failure:
            if not self.cfg.reload:
                raise
            self.init_signals()  # the loop that has ended left TERM ignored
            self.wsgi = stand_in(failure, self.reloader, self.log)
            self._run_app()

    def _run_app(self) -> None:
        with logs.lent(self.log):
            assembly = assemble(
                Parts(self.wsgi, self, self.log, _kind(self.log)),
                self._settings,
                self._options,
                self._certificates,
                self._count,
            )
            new_loop = assembly.config.get_loop_factory() or asyncio.new_event_loop
            self._loop = new_loop()
            asyncio.set_event_loop(self._loop)
            try:
                self._loop.run_until_complete(self._serve(assembly))
            finally:
                assembly.access_log.flush()
            self._loop.close()

    def _count(self, app: Any) -> Any:
        if not self._recycling.counts:
            return app
        return self._recycling.counted(app, self._limit_reached)

    def _limit_reached(self) -> None:
        self._retirement.check()

    # On the loop

    async def _serve(self, assembly: Assembly) -> None:
        loop, config = asyncio.get_running_loop(), assembly.config
        assert Worker._board is not None
        pulse = heartbeat.Heartbeat(
            self._beat,
            timeout=self.cfg.timeout,
            error_fd=functools.partial(logs.error_descriptor, self.log),
        )
        lifespan = Lifespan(config.loaded_app, config.lifespan, config.asgi_version)
        lifespan.state["worker_id"] = self._slot.id
        self._server = Server(
            config,
            lifespan,
            graceful_timeout=self.cfg.graceful_timeout,
            proxy_protocol=assembly.proxy_protocol,
            certificates=self._certificates,
            on_connections=functools.partial(setattr, self._slot, "connections"),
            on_stage=self._reached,
            on_stop=functools.partial(self._stopping, pulse),
        )
        self._retirement = Retirement(
            Worker._board,
            self._slot,
            self._recycling,
            drain=self._drain,
            log=self.log,
        )
        handlers = signals.loop_handlers(
            loop,
            drain=self._told,
            quit_=self._interrupt,
            reopen=functools.partial(self._reopen, assembly),
        )
        with pulse.beating(loop), handlers:
            loop.add_reader(self.PIPE[0], self._woken)
            await self._server.serve(
                [listener.sock for listener in self.sockets],
                balance=self._siblings,
                ceiling=self._settings.worker_connections,
            )
            loop.remove_reader(self.PIPE[0])

    def _reached(self, stage: Stage) -> None:
        if stage is Stage.SERVING:
            # Said first: a sibling that waited for this may speak of leaving at once.
            self.log.info("Application startup complete (worker %d).", self._slot.id)
            self._boot.done()
        else:
            self._slot.state = STATES[stage]

    def _stopping(self, pulse: heartbeat.Heartbeat, deadlines: Deadlines) -> None:
        self.alive = False
        pulse.end_by(deadlines.process, asyncio.get_running_loop().time())

    def _beat(self) -> None:
        now = heartbeat.clock()
        self.notify()
        self._slot.beat(now)
        self._siblings.refresh(now)
        if self._running.started:
            self._slot.requests_in_flight = len(self._running.server_state.tasks)
            self._slot.requests_done = self._running.server_state.total_requests
            self._retirement.check()
            self._renew_certificates()
        if self.alive and heartbeat.orphaned(self.ppid):
            self.log.warning("The arbiter (pid %s) is gone; leaving.", self.ppid)
            self._retirement.leave()

    def _watch_certificates(self) -> None:
        hidden = self._certificates.watch() if self._certificates else None
        if hidden is not None:
            uid = os.geteuid()
            self.log.info("uid %d may not read %s; HUP renews it.", uid, hidden)

    def _renew_certificates(self) -> None:
        if self._certificates is None:
            return
        try:
            if self._certificates.refresh():
                self.log.info("The renewed certificate is in use.")
        except tls.TLSError as error:
            self.log.error("The old certificate stays in use: %s", error)

    # How it is told, on the loop

    def _told(self) -> None:
        """TERM; the boot may go on as a task of this loop."""
        if not self._running.started:
            self._let_go()
        self._retirement.told()

    def _drain(self, nobody_else: bool, wait: float) -> None:
        self._running.drain(
            delay=wait + (self._options.drain_delay if nobody_else else 0.0),
            take_backlog=nobody_else or self.cfg.reuse_port,
        )

    def _interrupt(self) -> None:
        """INT or QUIT; a terminal's Ctrl-C brings one, and the arbiter the other."""
        if not self._interrupted:
            self._interrupted = True
            self._running.quit()
            self.cfg.worker_int(self)

    def _woken(self) -> None:
        """Leave at the word of the reloader's thread, which ran ``worker_int``."""
        os.read(self.PIPE[0], 1)
        self._running.quit()

    def _reopen(self, assembly: Assembly) -> None:
        """USR1: let what waits go to the old file, then reopen."""
        assembly.access_log.flush()
        self.log.reopen_files()

    @property
    def _running(self) -> Server:
        assert self._server is not None
        return self._server

    # In a signal handler

    def _let_go(self) -> None:
        """Close the listeners of a boot that ends, before siblings learn of its end.

        Held until the exit, they would outlast those of the siblings: who connects
        then is let in by the kernel, served by nobody, and reset.
        """
        for listener in self.sockets:
            listener.sock.close()

    def _leave_boot(self) -> NoReturn:
        signals.ignore_further()
        self._let_go()
        self._slot.told = True
        self._slot.state = State.LEAVING
        exits.leave(exits.CLEAN)

    def _interrupt_boot(self) -> NoReturn:
        signals.ignore_further()
        self.cfg.worker_int(self)
        self._leave_boot()

    def _abort(self) -> NoReturn:
        """ABRT: the arbiter saw no beat for ``timeout``. It kills a second later."""
        self.alive = False
        self.log.critical(
            "No life sign for %s s: the event loop is blocked. Its stacks:\n%s",
            self.cfg.timeout,
            heartbeat.describe_stacks(self._loop),
        )
        self.cfg.worker_abort(self)
        if self._loop is not None:
            # An app that catches BaseException catches the exit below, not this one.
            self._loop.call_soon(exits.leave, exits.ABORTED)
        exits.leave(exits.ABORTED)


class H11Worker(Worker):
    """A worker without compiled parts: h11 on asyncio's own loop."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"http": "h11", "loop": "asyncio"}


def _kind(log: Any) -> LoggerKind:
    """Tell gunicorn's own loggers from the user's."""
    kinds: dict[type, LoggerKind] = {
        glogging.Logger: "gunicorn",
        statsd.Statsd: "statsd",
    }
    return kinds.get(type(log), "custom")
