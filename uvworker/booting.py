"""The worker between the fork and the event loop: gunicorn's calls, in their order.

It reads options and certificates, sets up logs, imports the app, and handles signals
while no loop turns. The rule: every failure here ends in `process.boot`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from typing import Any, NoReturn

from gunicorn import util
from gunicorn.errors import AppImportError

from .accept import tls
from .accept.own_listener import CannotBind, OwnListener, is_possible
from .access.log import AccessLog, has_logconfig, is_written
from .access.uvicorn_logger import UvicornLogger
from .app.error_page import stand_in
from .app.interface import NotServable
from .app.lifespan import LifespanFailed
from .config import env_file, settings
from .config.report import Refused, report
from .config.sources import OptionError
from .configured import ConfiguredWorker, kind_of
from .diagnosis import stacks
from .observation import Observation
from .operations.statsd import Statsd
from .operations_thread import operations_thread
from .process import children, deaths, exits, heartbeat, log_files, logs, signals
from .process.boot import Boot
from .process.recycling import Recycling
from .process.siblings import Siblings
from .server import Server
from .shared_memory import in_flight
from .shared_memory.history import Exit
from .shared_memory.scoreboard import State
from .worker_report import WorkerReport

# Failures whose message says enough; they are logged without a traceback.
PLAIN = (
    AppImportError,
    CannotBind,
    LifespanFailed,
    NotServable,
    OptionError,
    Refused,
    tls.TLSError,
)

BOOTED = State.SERVING, State.DRAINING, State.LEAVING


class BootingWorker(ConfiguredWorker):
    """A gunicorn worker as far as the import of its app."""

    # In the arbiter, before the fork

    @classmethod
    def setup(cls) -> None:
        """Let a preloaded app log; gunicorn calls this when it loads the class."""
        super().setup()
        logs.lend(logging.getLogger(logs.GUNICORN_ERROR))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        logs.lend(self.log)
        shared = self.shared()
        if shared.requests is not None:
            in_flight.report_dead(shared.requests, shared.board, self.log)
        self._board = shared.board
        self._slot = shared.board.claim(self.age)
        deaths.watch(shared.board)
        self._problems = shared.problems.open(self._slot.id)
        if not self._slot.failures:
            self._problems.publish()  # those of the worker before are over
        self._siblings = Siblings(shared.board, self._slot)
        self._boot = Boot(
            shared.board,
            self._slot,
            shared.halt_token,
            plain=PLAIN,
            wait=self._wait,
            report=functools.partial(self._problems.set, "boot"),
            log=self.log,
        )
        # An old gunicorn opens one listener for all workers here; it is served.
        self._own_listeners = not self.sockets and is_possible(self.cfg)
        self._worker_report: WorkerReport | None = None
        self._statsd: Statsd | None = None
        self._register: in_flight.Register | None = None
        self._stacks: heartbeat.Stacks | None = None
        # Set by `Worker` on the loop; None tells a failure that it came before.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: Server | None = None

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
            # The first call in the worker. The arbiter's handlers, which the fork
            # inherits, would swallow a TERM, and a stop sends only one.
            self._handle_boot_signals()
            os.environ["UVWORKER_ID"] = str(self._slot.id)  # for `post_fork`, too
            if self._own_listeners:  # else gunicorn opens them now, for a whole boot
                self.cfg.set("reuse_port", False)

    @property
    def booted(self) -> bool:
        """Whether the app has started, as ``gunicornc`` shows it.

        gunicorn sets it too, in the worker and too early; that is ignored.
        """
        return self._slot.age == self.age and self._slot.state in BOOTED

    @booted.setter
    def booted(self, _value: bool) -> None: ...

    @property
    def aborted(self) -> bool:
        """Whether the arbiter has sent ABRT; it sets this before."""
        return self._aborted

    @aborted.setter
    def aborted(self, aborted: bool) -> None:
        self._aborted = aborted
        if aborted:  # the worker may be in C code, and never say so itself
            self._slot.exit = Exit.HUNG

    # In the worker, after the fork, before the loop

    def init_process(self) -> None:
        """Boot and serve; every failure before the first request ends here."""
        util._setproctitle(  # noqa: SLF001  what the arbiter calls, in all versions
            f"worker {self._slot.id} [{self.cfg.proc_name}]"
        )
        self._settle_logs()
        self._stacks = heartbeat.Stacks(
            functools.partial(logs.error_descriptor, self.log)
        )
        try:
            self._prepare()
            self._watch_children()
            self._take_group()
            super().init_process()
        except BaseException as failure:  # also an interrupt that the app raised
            children.exit_if_child(failure)
            if isinstance(failure, exits.Leaving):
                raise
            if self._server is not None and self._server.started:
                if isinstance(failure, Exception):
                    raise
                if isinstance(failure, asyncio.CancelledError):  # by a subclass
                    exits.leave(exits.CLEAN)
                # Out of the fork, gunicorn would take an interrupt for the arbiter's.
                exits.leave(exits.harmless(exits.code_of(failure)))
            self._handle_boot_signals()  # a loop that ended left TERM ignored
            self._settle_logs()  # so that the failure is logged
            if self._slot.terminating or not self.alive:
                exits.leave(exits.CLEAN)
            not_loaded = isinstance(failure, (AppImportError, NotServable))
            self._boot.fail(
                failure, exits.APP_NOT_LOADED if not_loaded else exits.BOOT_FAILED
            )
        finally:
            if self._worker_report is not None:
                self._worker_report.stop()

    def _settle_logs(self) -> None:
        """Repair the loggers, which the app's code may have configured."""
        logs.settle(self.log)
        if self.shared().operations is not None:
            self.shared().warnings.keep(self._slot.id)

    def _watch_children(self) -> None:
        children.disown()
        listeners = [listener.sock for listener in self.sockets]
        if self._worker_report is not None:
            listeners += self._worker_report.listeners
        children.watch(listeners, lambda: self._loop, self._detach)

    def _detach(self) -> None:
        """Keep a process that the app forked from shared memory, files and clients."""
        self._slot.detach()
        self._problems.detach()
        if self._worker_report is not None:
            self._worker_report.detach()
        if self._register is not None:
            self._register.detach()
        self._access_log.forget()
        if self._server is not None:
            self._server.detach()

    def _wait(self, seconds: float) -> None:
        """Sleep while no loop turns, and send heartbeats."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.notify()
            time.sleep(min(left, heartbeat.period(self.cfg.timeout)))

    def _prepare(self) -> None:
        """Read the options, and files that only the arbiter's user may read."""
        os.environ.update(self.cfg.env)
        if self._own_listeners:
            self.cfg.set("reuse_port", True)
            self.sockets = [
                OwnListener(address, self.cfg.backlog) for address in self.cfg.address
            ]
        self._read_options()
        self._observe()
        env_file.read(self._options)
        self._boot.back_off()
        self._boot.watch(self._options.boot_timeout)
        # Before gunicorn changes the user: the key is often root's alone.
        self._certificates = load_certificates(
            self.cfg, self._settings, self._options.ssl_keyfile_password
        )
        if self._certificates is not None:
            self._slot.certificate = self._certificates.expires or 0
        self._access_log = self._open_access_log()

    def _open_access_log(self) -> AccessLog:
        """Set the access log up, before the app's import may look at its loggers."""
        kind, lines = kind_of(self.log), self._options.access_log is not False
        return AccessLog(
            self.log,
            kind,
            self._settings.access_log_format,
            as_json=self._options.access_log_json,
            lines=lines,
            worker_id=self._slot.id,
            uvicorns=self._uvicorns_logger() if lines else None,
        )

    def _uvicorns_logger(self) -> UvicornLogger:
        made = has_logconfig(self.cfg)
        return UvicornLogger(self.log, beside=is_written(self.log), made=made)

    def _read_options(self) -> None:
        self._options = options = self.resolve_options()
        self._settings = settings.translate(self.cfg, options)
        report(self.cfg, options).enforce()
        self._recycling = Recycling(
            max_requests=self._settings.max_requests,
            max_requests_jitter=self._settings.max_requests_jitter,
            max_rss=options.max_rss,
            max_lifetime=options.max_lifetime,
            max_lifetime_jitter=options.max_lifetime_jitter,
        )

    def _observe(self) -> None:
        """Answer an operator from now on, also while the app imports or fails."""
        shared = self.shared()
        self._observation = Observation(
            shared,
            name=self.cfg.proc_name,
            wanted=self.cfg.workers,
            timeout=self.cfg.timeout,
            boot_timeout=self._options.boot_timeout,
            connections_limit=self._settings.worker_connections,
            listeners=[listener.sock for listener in self.sockets],
            requests=shared.requests if self._options.ops_requests else None,
        )
        if self._observation.requests is not None:
            self._register = self._observation.requests.register(self._slot.id)
        if kind_of(self.log) == "statsd":
            self._statsd = Statsd(self.log, self._observation)
        if shared.operations is not None:
            thread = operations_thread(
                shared,
                self._slot,
                self._observation,
                uid=self.cfg.uid,
                public=self._options.ops_public,
                loop=lambda: self._loop,
                sample=self._sample,
            )
            # Known before it starts: a TERM meanwhile has to stop it.
            self._worker_report = WorkerReport(shared, self._slot, thread)
            with signals.kept_for_main_thread():
                self._worker_report.start()

    def _sample(self) -> None:
        """Publish the counts, on the operations thread, and sample the totals."""
        if self._worker_report is not None:
            self._worker_report.publish()
        self._observation.sample()

    def _take_group(self) -> None:
        """Take the group; with ``initgroups``, gunicorn takes only the other ones."""
        if self.cfg.initgroups and self.cfg.gid != os.getegid():
            os.setgid(self.cfg.gid)

    def init_signals(self) -> None:
        """Install the handlers of the boot; gunicorn's call, before the import."""
        self._handle_boot_signals()

    def _handle_boot_signals(self) -> None:
        signals.install_boot_handlers(
            leave=self._leave_boot,
            interrupt=self._interrupt_boot,
            reopen=self._reopen,
            abort=self._abort,
        )
        if self._stacks is not None:
            self._stacks.dump_on_abort()

    def load_wsgi(self) -> None:
        """Import the app; with ``--reload``, a page takes the place of a broken one."""
        try:
            self.wsgi = self.app.wsgi()
        except Exception as failure:
            if not self.cfg.reload:
                raise
            self.wsgi = stand_in(failure, self.reloader, self.log)

    def _reopen(self) -> None:
        """Handle USR1."""
        log_files.reopen(self._reopen_files, self.log)

    def _reopen_files(self) -> None:
        self.log.reopen_files()

    # In a signal handler

    def _close_listeners(self) -> None:
        """Close the listeners of a boot that ends, before siblings see its end.

        Otherwise they would stay open after those of the siblings: the kernel would
        accept clients that no worker serves, and reset them.
        """
        for listener in self.sockets:
            listener.sock.close()

    def _leave_boot(self) -> NoReturn:
        signals.ignore_further()
        self._close_listeners()
        self._slot.terminating = True
        self._slot.exit = Exit.TERM
        self._slot.state = State.LEAVING
        exits.leave(exits.CLEAN)

    def _interrupt_boot(self) -> NoReturn:
        signals.ignore_further()
        self.cfg.worker_int(self)
        self._leave_boot()

    def _abort(self) -> NoReturn:
        """Handle ABRT: no beat for ``timeout``. The arbiter kills a second later."""
        self.alive = False
        self._slot.exit = Exit.HUNG
        self.log.critical(
            "No heartbeat for %s s: the event loop of worker %d is blocked. "
            "The worker exits. Its stacks:\n%s",
            self.cfg.timeout,
            self._slot.id,
            stacks.describe(self._loop),
        )
        self.cfg.worker_abort(self)
        if self._loop is not None:
            # If the app catches BaseException, it catches the exit below, not this one.
            self._loop.call_soon(exits.leave, exits.ABORTED)
        exits.leave(exits.ABORTED)


def load_certificates(
    cfg: Any, given: settings.Settings, password: str | None
) -> tls.Certificates | None:
    """Return what *cfg* serves TLS with, None without TLS; raises ``TLSError``."""
    if not settings.speaks_tls(cfg):
        return None
    files = tls.Files(given.certfile, given.keyfile, given.ca_certs)
    default = functools.partial(
        tls.default_context,
        files,
        password=password,
        cert_reqs=cfg.cert_reqs,
        ciphers=cfg.ciphers,
        alpn_protocols=settings.alpn_protocols(given),
    )
    return tls.Certificates(lambda: cfg.ssl_context(cfg, default), files)
