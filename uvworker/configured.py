"""The half of the worker that runs in the arbiter, before the fork.

What was configured is read, checked and reported here: at start, where it may be
refused, and after a reload, where an exception would end the arbiter and with it the
workers that serve. Nothing here acts on the process but what `gc_freeze` asks for.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from gunicorn.workers import base

from .assembly import PARAMETERS
from .config import settings
from .config.names import unknown_names
from .config.options import Options
from .config.report import Refused, lost_over_http2, report
from .config.requirements import unmet
from .config.sources import OptionError, resolve, unapplied

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from .config.arguments import Arguments


class ConfiguredWorker(base.Worker):  # type: ignore[misc]  # gunicorn has no types
    """A gunicorn worker that knows its options, and says what does not hold."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {}
    OPTIONS: ClassVar[Mapping[str, Any]] = {}  # of `configured`

    _frozen: ClassVar[Any] = ()  # the preloaded app, or None, when memory was frozen
    _warned_of: ClassVar[Any] = None  # the configuration that was reported

    @classmethod
    def configured(cls, **options: Unpack[Arguments]) -> type[Self]:
        """Return this worker class with *options*, for ``worker_class`` in a conf file.

        ``worker_class = uvworker.Worker.configured(ws_ping_interval=10)``

        They are checked at start, and again by each worker that boots: an exception
        in a configuration file would end the arbiter at a reload. A variable in the
        environment wins over an option given here (`config.sources`).
        """
        return type(cls.__name__, (cls,), {"OPTIONS": {**cls.OPTIONS, **options}})

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Refuse, before the first fork, what no worker could serve with.

        Called by the arbiter at start, not at a reload; raises ``RuntimeError``,
        which gunicorn prints as one line, and ends with exit code 1.
        """
        try:
            options = cls._resolve()
            report(cfg, options).enforce()
        except (OptionError, Refused) as error:
            raise RuntimeError(str(error)) from error
        told = settings.translate(cfg, options)
        if lacking := " ".join(unmet(cfg, told, options)):
            raise RuntimeError(lacking)
        cls._warn(cfg, options, log)

    @classmethod
    def _resolve(cls) -> Options:
        return resolve(
            PARAMETERS,
            config_kwargs=cls.CONFIG_KWARGS,
            configured=cls.OPTIONS,
            environ=os.environ,
        )

    @classmethod
    def _warn(cls, cfg: Any, options: Options, log: Any) -> None:
        """Name, once for each configuration, what has no effect in it."""
        ConfiguredWorker._warned_of = cfg
        for sentence in (
            *report(cfg, options).warnings,
            *lost_over_http2(cfg, options),
            *unknown_names(cfg),
            *unapplied(os.environ),
        ):
            log.warning("%s", sentence)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        with contextlib.suppress(OptionError):  # said at start, or by the boot to come
            options = self._resolve()
            if ConfiguredWorker._warned_of is not self.cfg:
                self._warn(self.cfg, options, self.log)
            self._freeze(options)

    def _freeze(self, options: Options) -> None:
        """Keep the collector off what the fork shares: it would copy the pages.

        Of gunicorn, uvicorn and this package these are 3.5 MB a worker. A preloaded
        app may hold anything, so it is frozen only where that is asked for.
        """
        if self.cfg.preload_app and not options.gc_freeze:
            return
        if ConfiguredWorker._frozen is not self.app.callable:
            ConfiguredWorker._frozen = self.app.callable
            gc.collect()
            gc.freeze()
