"""``self.config`` and ``CONFIG_KWARGS`` of a subclass, translated to options.

``self.config`` exists after ``__init__``, with the values that take effect. What a
subclass sets there or in ``CONFIG_KWARGS`` is checked like an option. The rule: what it
says takes effect or is refused, by the start and the check alike.
"""

from __future__ import annotations

import contextlib
import logging
from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar

from ..access.log import AccessLog
from ..access.uvicorn_logger import GUNICORNS
from ..config import logconfig
from ..config.options import Options
from ..config.requirements import unmet
from ..config.sources import OptionError
from ..own_names import CLASH
from ..worker import Worker
from . import config_object, conflicts, overrides
from .config_writes import overridden, snapshot, unusable, usable, written

OWN_BEAT = 1  # seconds between two heartbeats of a server of the subclass's own


class WithConfig(Worker):
    """A worker with uvicorn's ``self.config``; `UvicornWorker` is made of it."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {}

    _written: dict[str, Any]
    _made: dict[str, Any]  # its attributes, until it is at work
    _clashes: list[str]
    config: Any  # uvicorn's ``Config``, or what a subclass puts there

    @abstractmethod
    async def callback_notify(self) -> None:
        """Send a heartbeat."""

    @abstractmethod
    async def _own_beat(self) -> None:
        """Send a heartbeat for a server of the subclass's own, which has started."""

    # In the arbiter, before the fork. There is no `__init__` here: a subclass may skip
    # that of `UvicornWorker`, and is refused then.

    def _make_config(self) -> None:
        """Make ``self.config``; what the subclass does next is found by comparison."""
        self._mirrored = config_object.blank()
        self._mirror(Options())
        self.config = self._mirrored
        self._made = {**vars(self)}
        with contextlib.suppress(OptionError):  # said at start, or by the boot to come
            self.resolve_options()

    def __getattr__(self, name: str) -> Any:
        """Explain an attribute that is missing because nothing made the worker."""
        if "_written" not in vars(self):
            raise AttributeError(overrides.init_not_called(type(self)))
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}"
        )

    @classmethod
    def lost_overrides(cls) -> Collection[str]:
        """Return a sentence for each override without effect."""
        return *overrides.lost(cls), *overrides.hidden_config(cls)

    # Its options

    def resolve_options(self) -> Options:
        """Return the options, with ``CONFIG_KWARGS`` and writes to ``self.config``."""
        if "_written" not in vars(self):
            raise OptionError(overrides.init_not_called(type(self)))
        ready = "_before" in vars(self)
        if ready:
            self._written |= self._find_writes()
        clashes = [*(self._clashes or self._find_clashes())]
        if ready and not self._serves_itself():
            clashes += overridden(self.config)
        try:
            options = self._options_from(self.cfg, self.CONFIG_KWARGS, self._written)
        except OptionError as error:
            raise OptionError(*clashes, *error.problems) from None
        if clashes:
            raise OptionError(*clashes)
        if ready:
            self._mirror(options)
        return options

    def _find_writes(self) -> dict[str, Any]:
        """Return what a subclass has written, maybe as a configuration of its own."""
        if self.config is not self._mirrored:
            self._mirrored, self._before = self.config, snapshot(config_object.blank())
        return written(self.config, self._before)

    def _find_clashes(self) -> list[str]:
        if not self._made:
            return []
        names = overrides.clashing_attributes(self, self._made)
        return [CLASH.format(f"self.{name}") for name in names]

    @classmethod
    def refused_overrides(cls) -> Collection[str]:
        """Return a sentence for each override that no worker can start with."""
        return [*overrides.init_problems(cls), *super().refused_overrides()]

    @classmethod
    def _options_from(
        cls,
        cfg: Any,
        config_kwargs: Mapping[str, Any],
        written: Mapping[str, Any] = MappingProxyType({}),
    ) -> Options:
        problems: list[str] = []
        if isinstance(config_kwargs, property):  # read from the worker that is made
            config_kwargs = {}
        elif not isinstance(config_kwargs, Mapping):
            raise OptionError(f"CONFIG_KWARGS is {config_kwargs!r}; allowed: a dict.")
        if not cls._serves_itself():
            problems += conflicts.problems(cfg, config_kwargs, 'CONFIG_KWARGS["{}"]')
            problems += conflicts.problems(cfg, written, "self.config.{}")
            problems += unusable(written)
        try:
            options = super()._options_from(
                cfg,
                conflicts.without_gunicorns(config_kwargs),
                usable(conflicts.without_gunicorns(written)),
            )
        except OptionError as error:
            raise OptionError(*problems, *error.problems) from None
        if problems:
            raise OptionError(*problems)
        if cls._serves_itself():
            return config_object.with_uvicorns_http(cfg, options)
        return _quiet(options, {**config_kwargs, **written})

    @classmethod
    def _serves_itself(cls) -> bool:
        return overrides.own_server(cls) is not None

    def _mirror(self, options: Options) -> None:
        """Set ``self.config`` to the values that take effect, and keep a snapshot."""
        config_object.mirror(self._mirrored, self.cfg, options)
        for name, value in self._owned().items():
            setattr(self._mirrored, name, value)
        if self._serves_itself():
            self._mirrored.callback_notify = self._own_beat
            self._mirrored.timeout_notify = OWN_BEAT
        elif "callback_notify" not in self._owned():
            self._mirrored.callback_notify = self.callback_notify
        self._before = snapshot(self._mirrored)

    def _owned(self) -> dict[str, Any]:
        """Return the parameters that a subclass sets and gunicorn decides."""
        kwargs = self.CONFIG_KWARGS
        given = {**(kwargs if isinstance(kwargs, Mapping) else {}), **self._written}
        return {name: given[name] for name in given if conflicts.is_gunicorns(name)}

    def _read_options(self) -> None:
        super()._read_options()
        limit = self._owned().get("timeout_graceful_shutdown")
        if limit is not None and not self._serves_itself():
            self._settings = replace(self._settings, graceful_timeout=limit)

    def _prepare(self) -> None:
        super()._prepare()
        if lacking := list(unmet(self.cfg, self._settings, self._options)):
            raise OptionError(*lacking)

    def _open_access_log(self) -> AccessLog:
        self._set_up_logs()
        logger = logging.getLogger("uvicorn.access")
        theirs = list(logger.handlers)
        access_log = super()._open_access_log()
        if self._serves_itself():  # uvicorn's own lines go where gunicorn's would
            logger.handlers = theirs or list(logging.getLogger(GUNICORNS).handlers)
        return access_log

    def unusable_logs(self) -> Collection[str]:
        """Return a sentence for what is wrong with ``log_config``; for the check."""
        made = "_written" in vars(self)  # else it is refused
        given = self._owned().get("log_config") if made else None
        return () if given is None else [*logconfig.unusable_in_worker(given)]

    def _set_up_logs(self) -> None:
        """Apply ``log_config`` and ``log_level``, as uvicorn's worker did."""
        given = self._owned()
        if given.get("log_config") is not None or given.get("log_level") is not None:
            try:
                self.config.configure_logging()
            except Exception as error:
                why = (
                    f"{error!r} ({error.__cause__})" if error.__cause__ else repr(error)
                )
                raise OptionError(f"log_config cannot be used: {why}.") from error
        level = conflicts.level(given.get("log_level"))
        if level is not None and hasattr(self.log, "error_log"):
            self.log.error_log.setLevel(level)

    def init_process(self) -> None:
        """Boot and serve; from here on the worker's attributes change."""
        if "_made" in vars(self):  # unless a subclass did not call our `__init__`
            self._clashes, made = self._find_clashes(), self._made
            for name in overrides.clashing_attributes(self, made):
                delattr(self, name)  # or the boot could not say so
                if name in made:
                    setattr(self, name, made[name])
            self._made = {}
        super().init_process()


def _quiet(options: Options, given: Mapping[str, Any]) -> Options:
    """Disable access lines if ``log_level`` would hide those of uvicorn."""
    level = conflicts.level(given.get("log_level"))
    if level is not None and level > logging.INFO and options.access_log is None:
        return replace(options, access_log=False)
    return options
