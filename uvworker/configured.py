"""The part of the worker that runs in the arbiter, before the fork.

It reads, checks and reports the configuration: at start, where it may refuse it, and
after a reload, where an exception would end the arbiter and the workers that serve. The
rule: nothing here changes the process, except as `gc_freeze` asks.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from gunicorn import glogging
from gunicorn.instrument import statsd
from gunicorn.workers import base

from .access.log import AccessLog, LoggerKind, inherited
from .assembly import PARAMETERS
from .config import env_file, logconfig, settings
from .config.arguments import Arguments
from .config.options import Options
from .config.report import Refused, report, unspoken_http2
from .config.requirements import unmet
from .config.sources import OptionError, resolve, unapplied
from .config.unknown_names import unknown_names
from .machine import notify_socket, shortages
from .operations.listener import AddressError
from .own_names import clashing_names
from .process.heartbeat_file import HeartbeatFile, WorkerTmp
from .shared import Shared

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack  # no Python before 3.11 has them

OLD_CODE = (
    "The reload keeps the code that preload_app has imported: the arbiter imports no "
    "app twice. Send USR2 to start with new code."
)


class ConfiguredWorker(base.Worker):  # type: ignore[misc]  # gunicorn has no types
    """A gunicorn worker that knows its options, and reports what has no effect."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {}
    _configured_options: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    sockets: list[Any]  # gunicorn's listeners, or what has their shape
    tmp: WorkerTmp  # made by gunicorn, which looks at it

    # Of the one arbiter in this process; the only state of the class.
    _shared: ClassVar[Shared | None] = None

    @classmethod
    def configured(cls, **options: Unpack[Arguments]) -> type[Self]:
        """Return this worker class with *options*, for ``worker_class`` in a conf file.

        ``worker_class = uvworker.Worker.configured(ws_ping_interval=10)``

        They are checked at start, and again by each worker that boots: an exception
        in a configuration file would end the arbiter at a reload. A variable in the
        environment wins over an option given here (`config.sources`).
        """
        given = {**cls._configured_options, **options}
        names = {"__module__": cls.__module__, "_configured_options": given}
        return type(cls.__name__, (cls,), names)

    @classmethod
    def setup(cls) -> None:
        """Keep gunicorn from telling systemd that it is ready, before it has workers.

        Called by the arbiter when it loads the class: at start, and at each reload.
        """
        if ConfiguredWorker._shared is None:
            notify_socket.withhold()

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Refuse, before the first fork, a configuration that no worker could serve.

        Called by the arbiter at start, not at a reload; raises ``RuntimeError``,
        which gunicorn prints as one line before it exits with 1.
        """
        try:
            options = cls._options_from(cfg, cls.CONFIG_KWARGS)
            report(cfg, options).enforce()
        except (OptionError, Refused) as error:
            raise RuntimeError(str(error)) from error
        translated = settings.translate(cfg, options)
        lacking = [*unmet(cfg, translated, options), *cls.unwritable(cfg, options, log)]
        if lacking:
            raise RuntimeError(" ".join(lacking))
        cls._warn(cfg, options, log)
        if cfg.preload_app and (sentence := shortages.threads()):
            log.warning("%s", sentence)
        try:
            cls.shared().bind_operations(options.ops_bind)
        except AddressError as error:
            raise RuntimeError(f"{error}.") from error
        try:
            cls.shared().notify_systemd()
        except OSError as error:
            log.warning("systemd is not notified: NOTIFY_SOCKET: %s.", error.strerror)

    @classmethod
    def shared(cls) -> Shared:
        """Return what all workers share; the first call makes it, in the arbiter."""
        if ConfiguredWorker._shared is None:
            ConfiguredWorker._shared = Shared()
        return ConfiguredWorker._shared

    @classmethod
    def _options_from(
        cls,
        cfg: Any,  # noqa: ARG003  what a value means may depend on it, for a subclass
        config_kwargs: Mapping[str, Any],
        written: Mapping[str, Any] = MappingProxyType({}),
    ) -> Options:
        refused = cls.refused_overrides()
        try:
            options = resolve(
                PARAMETERS,
                config_kwargs=config_kwargs,
                written=written,
                configured=cls._configured_options,
                environ=os.environ,
            )
        except OptionError as error:
            raise OptionError(*refused, *error.problems) from None
        if refused:
            raise OptionError(*refused)
        return options

    def resolve_options(self) -> Options:
        """Return the options of this worker; raises :class:`OptionError`."""
        return self._options_from(self.cfg, self.CONFIG_KWARGS)

    @classmethod
    def lost_overrides(cls) -> Collection[str]:
        """Return a sentence for each method of a subclass that is never called."""
        return ()

    @classmethod
    def refused_overrides(cls) -> Collection[str]:
        """Return a sentence for each override that no worker can start with."""
        return [*clashing_names(cls)]

    @classmethod
    def unwritable(cls, cfg: Any, options: Options, log: Any) -> Collection[str]:
        """Return a sentence if no worker can write the access log to *log*."""
        try:
            AccessLog(
                log,
                kind_of(log),
                cfg.access_log_format,
                as_json=options.access_log_json,
                lines=options.access_log is not False,
            )
        except ValueError as error:
            return (f"{error}.",)
        return ()

    def unusable_logs(self) -> Collection[str]:
        """Return a sentence for what keeps a worker from setting its logs up."""
        return ()

    @classmethod
    def take_as_reported(cls, cfg: Any) -> None:
        """Keep workers from reporting *cfg* and from binding `ops_bind` for it."""
        cls.shared().warned_of = cfg

    @classmethod
    def _warn(cls, cfg: Any, options: Options, log: Any) -> None:
        """Log, once for each configuration, what has no effect in it."""
        cls.take_as_reported(cfg)
        if options.ops_bind:
            cls.shared().warnings.keep()
        if options.access_log is not False and (sentence := inherited(cfg)):
            log.info("%s", sentence)
        for sentence in (
            *cls.lost_overrides(),
            *report(cfg, options).warnings,
            *unspoken_http2(cfg, options),
            *logconfig.ignored(cfg),
            *unknown_names(cfg),
            *env_file.unread(cfg, options),
            *unapplied(os.environ),
            shortages.descriptors(settings.translate(cfg, options).worker_connections),
        ):
            if sentence:
                log.warning("%s", sentence)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tmp = HeartbeatFile(self.tmp, self.cfg.timeout, lambda: self.aborted)
        options = Options()
        with contextlib.suppress(OptionError):
            # the start or the boot logs it
            options = self.resolve_options()
            if (before := self.shared().warned_of) is not self.cfg:
                self._warn(self.cfg, options, self.log)
                self._rebind(options)
                if before and before.preload_app and self.cfg.preload_app:
                    self.log.warning(OLD_CODE)
            if options.ops_requests:
                self.shared().list_requests()
            self._freeze(options)
        self.shared().begin(self.cfg, self.age, options.boot_timeout)

    def _rebind(self, options: Options) -> None:
        """Bind the `ops_bind` of a reload, if it has changed."""
        try:
            self.shared().bind_operations(options.ops_bind)
        except AddressError as error:
            self.log.error("%s; the old listener stays.", error)

    def _freeze(self, options: Options) -> None:
        """Hide objects that the fork shares from the collector, which would copy pages.

        For gunicorn, uvicorn and this package that saves 3.5 MB a worker. A preloaded
        app may hold anything, so it is frozen only if `gc_freeze` says so.
        """
        if self.cfg.preload_app and not options.gc_freeze:
            return
        if self.shared().frozen is not self.app.callable:
            self.shared().frozen = self.app.callable
            gc.collect()
            gc.freeze()


def kind_of(log: Any) -> LoggerKind:
    """Return whether *log* is gunicorn's own logger or the user's."""
    kinds: dict[type, LoggerKind] = {
        glogging.Logger: "gunicorn",
        statsd.Statsd: "statsd",
    }
    return kinds.get(type(log), "custom")
