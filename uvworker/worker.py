"""The doorway that gunicorn calls. It wires the rooms in lifecycle order.

The only room that imports gunicorn, and the only one that knows all the others. What
it decides itself is short: what each signal does, and how a boot fails.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import time
from typing import Any, ClassVar, NoReturn

import uvicorn
from gunicorn import util
from gunicorn.errors import AppImportError
from gunicorn.workers import base

from .config import settings
from .config.interface import interface_of
from .config.options import Options
from .config.sources import OptionError, resolve, unapplied
from .lifespan import Lifespan, LifespanFailed
from .process import exits, handover, heartbeat, logs, signals
from .process.scoreboard import Scoreboard, Siblings, State, WorkerView
from .reload import failure_page, files_of
from .server import Deadlines, Server, Stage

_UVICORN_PARAMETERS = inspect.signature(uvicorn.Config).parameters

HALT_WAIT = 10.0  # seconds that a worker whose sibling failed first waits to be stopped
WEIGH = 0.1  # seconds between two looks at the siblings that shall take over

STATES = {
    Stage.DRAINING: State.DRAINING,
    Stage.LEAVING: State.LEAVING,
}


class Worker(base.Worker):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn worker class: serves an ASGI app with uvicorn.

    ``gunicorn -k uvworker.Worker -w 4 main:app``

    A subclass may set ``CONFIG_KWARGS``, arguments of ``uvicorn.Config`` that no
    gunicorn setting reaches, as with ``uvicorn.workers.UvicornWorker``.
    """

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {}

    # What all workers of an arbiter share; made by the first one, before its fork.
    _halt_token: ClassVar[exits.HaltToken]
    _board: ClassVar[Scoreboard | None] = None

    # In the arbiter, before the fork

    @classmethod
    def check_config(cls, _cfg: Any, log: Any) -> None:
        """Refuse, before the first fork, what no worker could serve with.

        Called by the arbiter at start, not at a reload; raises ``RuntimeError``,
        which gunicorn prints as one line, and ends with exit code 1.
        """
        try:
            cls._options()
        except OptionError as error:
            raise RuntimeError(str(error)) from error
        for sentence in unapplied(os.environ):
            log.warning("%s", sentence)

    @classmethod
    def _options(cls) -> Options:
        return resolve(
            _UVICORN_PARAMETERS, config_kwargs=cls.CONFIG_KWARGS, environ=os.environ
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if Worker._board is None:
            Worker._board = Scoreboard()
            Worker._halt_token = exits.HaltToken()
        self._slot = Worker._board.claim(self.age)
        self._siblings = Siblings(Worker._board, self._slot)
        self._handover: handover.HandOver | None = None
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

    # In the worker, after the fork, before the loop

    def init_process(self) -> None:
        """Boot and serve; every failure before the first request ends here."""
        os.environ["UVWORKER_ID"] = str(self._slot.id)
        util._setproctitle(  # noqa: SLF001  what the arbiter calls, in all versions
            f"worker {self._slot.id} [{self.cfg.proc_name}]"
        )
        try:
            super().init_process()
        except exits.Leaving:
            raise
        except (Exception, SystemExit) as failure:
            if self._server is not None and self._server.started:
                raise
            self._fail_boot(failure)

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
            self.log.exception("The app cannot be imported; waiting for a change.")
            for path in files_of(failure):
                self.reloader.add_extra_file(path)
            self.wsgi = failure_page(failure)

    def run(self) -> None:
        """Serve until told to stop, then leave; the last call of ``init_process``."""
        with logs.lent(self.log):
            options = self._options()
            self._settings = settings.translate(self.cfg, options)
            config = self._configure(options)
            new_loop = config.get_loop_factory() or asyncio.new_event_loop
            self._loop = new_loop()
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(self._serve(config))
            self._loop.close()

    def _configure(self, options: Options) -> uvicorn.Config:
        told = self._settings
        app, interface = self._app(options)
        # As a factory, so that uvicorn does not call the app to see what happens.
        arguments = options.for_uvicorn(_UVICORN_PARAMETERS) | {
            "app": lambda: app,
            "factory": True,
            "interface": interface,
            "log_config": None,
            "access_log": False,
            "loop": told.asgi_loop,
            "lifespan": told.asgi_lifespan,
            "http": "httptools" if told.http_parser == "auto" else told.http_parser,
            "root_path": told.root_path,
            "backlog": told.backlog,
            "timeout_keep_alive": told.keepalive,
            "ws_max_size": told.websocket_max_message_size,
            "forwarded_allow_ips": list(told.forwarded_allow_ips),
        }
        return uvicorn.Config(**arguments)

    def _app(self, options: Options) -> tuple[Any, str]:
        """Return the app and what it speaks, or say why it cannot be served."""
        app = self.wsgi
        if interface_of(app) == "factory":
            if not options.factory:
                self.log.warning(
                    "The app takes no arguments, so it is called as a factory; "
                    "write `module:name()` to say so."
                )
            app = app()
        spoken = interface_of(app) if options.interface == "auto" else options.interface
        if spoken == "wsgi" and options.interface == "auto":
            raise AppImportError(
                "The app takes (environ, start_response): it is a WSGI app, and "
                "uvworker serves ASGI. Serve it with gunicorn's own worker "
                "(-k gthread), or wrap it: a2wsgi.WSGIMiddleware(app)."
            )
        return app, spoken

    # On the loop

    async def _serve(self, config: uvicorn.Config) -> None:
        loop = asyncio.get_running_loop()
        config.load()
        pulse = heartbeat.Heartbeat(
            self._beat,
            timeout=self.cfg.timeout,
            error_fd=functools.partial(logs.error_descriptor, self.log),
        )

        lifespan = Lifespan(config.loaded_app, config.lifespan, config.asgi_version)
        lifespan.state["worker_id"] = self._slot.id
        self._server = server = Server(
            config,
            lifespan,
            graceful_timeout=self.cfg.graceful_timeout,
            on_stage=self._reached,
            on_stop=functools.partial(self._stopping, pulse),
        )
        handlers = signals.loop_handlers(
            loop,
            drain=self._terminated,
            quit_=self._interrupt,
            reopen=self.log.reopen_files,
        )
        with pulse.beating(loop), handlers:
            loop.add_reader(self.PIPE[0], self._woken)
            await server.serve(
                [listener.sock for listener in self.sockets],
                surplus=self._siblings.surplus,
                ceiling=self._settings.worker_connections,
            )
            loop.remove_reader(self.PIPE[0])

    def _reached(self, stage: Stage) -> None:
        if stage is Stage.SERVING:
            self._slot.serve()
            self.log.info("Application startup complete (worker %d).", self._slot.id)
        else:
            self._slot.state = STATES[stage]

    def _stopping(self, pulse: heartbeat.Heartbeat, deadlines: Deadlines) -> None:
        self.alive = False
        pulse.end_by(deadlines.process, asyncio.get_running_loop().time())

    def _beat(self) -> None:
        now = time.monotonic()
        self.notify()
        self._slot.beat(now)
        self._siblings.refresh(now)
        if self.alive and heartbeat.orphaned(self.ppid):
            self.log.warning("The arbiter (pid %s) is gone; leaving.", self.ppid)
            self._drain()

    # How it is told, on the loop

    def _terminated(self) -> None:
        """TERM: drain, but not before those who take over serve (`handover`)."""
        siblings = self._others()
        weighing = self._handover is not None
        self._handover = self._handover or handover.HandOver(self.age)
        self._slot.told = True
        self._handover.told(siblings)
        if not weighing:
            self._weigh()

    def _weigh(self) -> None:
        assert self._handover is not None
        verdict = self._handover.verdict(self._others())
        if verdict is handover.Verdict.DRAIN:
            self._drain()
        elif verdict is handover.Verdict.TAKE_BACK:
            self.log.warning("The new workers cannot boot; serving on.")
            self._slot.told, self._handover = False, None
        else:
            asyncio.get_running_loop().call_later(WEIGH, self._weigh)

    def _drain(self) -> None:
        """Stop accepting; who waits in the backlog is a sibling's, if one serves."""
        kept = [w for w in self._others() if w.alive and not w.told]
        nobody_else = not any(worker.state is State.SERVING for worker in kept)
        self._running.drain(take_backlog=nobody_else or self.cfg.reuse_port)

    def _others(self) -> list[WorkerView]:
        assert Worker._board is not None
        return Worker._board.siblings(self._slot)

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

    @property
    def _running(self) -> Server:
        assert self._server is not None
        return self._server

    # In a signal handler

    def _leave_boot(self) -> NoReturn:
        raise exits.Leaving(exits.CLEAN)

    def _interrupt_boot(self) -> NoReturn:
        self.cfg.worker_int(self)
        raise exits.Leaving(exits.CLEAN)

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
        raise exits.Leaving(exits.ABORTED)

    # The end of a boot that failed

    def _fail_boot(self, failure: BaseException) -> NoReturn:
        """Say what failed, once for all workers, and exit with the code that halts."""
        self._slot.fail(time.monotonic())
        assert Worker._board is not None
        me = next(w for w in Worker._board.workers() if w.id == self._slot.id)
        pause = handover.pause_after_failed_boot(me, self._others())
        if pause is None:
            self._halt_service(failure)
        self._explain(failure)
        self.log.error("Siblings serve on; the next attempt is in %d s.", pause)
        time.sleep(pause)
        raise exits.Leaving(exits.ABORTED)

    def _halt_service(self, failure: BaseException) -> NoReturn:
        """Exit with a code that halts; say why, if no sibling does so already."""
        if not Worker._halt_token.take():
            time.sleep(HALT_WAIT)  # the arbiter is about to stop this process
        self._explain(failure)
        app_failed = isinstance(failure, AppImportError)
        raise exits.Leaving(exits.APP_NOT_LOADED if app_failed else exits.BOOT_FAILED)

    def _explain(self, failure: BaseException) -> None:
        if isinstance(failure, LifespanFailed):
            self.log.error("%s", failure, exc_info=failure.__cause__)
            self.log.error("Application startup failed. Exiting.")
        elif isinstance(failure, (AppImportError, OptionError)):
            self.log.error("The worker cannot start: %s", failure)
        else:
            self.log.error("The worker cannot start: %r", failure, exc_info=failure)


class H11Worker(Worker):
    """A worker without compiled parts: h11 on asyncio's own loop."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"http": "h11", "loop": "asyncio"}
