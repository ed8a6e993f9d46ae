"""Records of ``uvicorn.error`` go to gunicorn's error log.

uvicorn, and apps written for it, log to ``logging.getLogger("uvicorn.error")``. The
rule: each record goes to the first of these that exists, and only there: handlers of
the logger itself, handlers of ``uvicorn``, gunicorn's error log. It gets there as it
is, with its name, place and ``extra``. Where a ``logger_class`` of the user or statsd
overrides gunicorn's methods, they are called instead, and make a record of their own.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from typing import Any

UVICORN, UVICORN_ERROR = "uvicorn", "uvicorn.error"
GUNICORN_ERROR = "gunicorn.error"
ALL = (GUNICORN_ERROR, "gunicorn.access", UVICORN_ERROR, "uvicorn.access")

# Where methods come from that do nothing else than to make a record and pass it on.
PLAIN = ("gunicorn.glogging", "logging")

# What formatters add to a record, besides what its factory does.
FORMATTED = {"message", "asctime"}


class _Lent(logging.Handler):
    """The handler on ``uvicorn.error`` that applies the rule of this room.

    *given*: the level that the logger got here, where the user had set none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.given = logging.NOTSET
        self._methods: tuple[tuple[int, Any], ...] = ()
        self._logger: logging.Logger | None = None

    def aim(self, log: Any) -> None:
        self._logger = _logger_of(log)
        # Highest first. gunicorn has no method for TRACE and other in-between levels.
        self._methods = (
            (logging.CRITICAL, log.critical),
            (logging.ERROR, log.error),
            (logging.WARNING, log.warning),
            (logging.INFO, log.info),
            (logging.NOTSET, log.debug),
        )

    def setFormatter(self, fmt: logging.Formatter | None) -> None:  # noqa: N802
        """Format gunicorn's error log, whose handlers uvicorn's worker had here."""
        for handler in self._logger.handlers if self._logger else ():
            handler.setFormatter(fmt)

    def emit(self, record: logging.LogRecord) -> None:
        # Looked up each time: an app may configure logging at any time.
        if len(logging.getLogger(UVICORN_ERROR).handlers) > 1:
            return
        if family := logging.getLogger(UVICORN).handlers:
            _give(record, family)
            return
        speak = next(
            method for level, method in self._methods if record.levelno >= level
        )
        if self._logger is None or getattr(speak, "__module__", "") not in PLAIN:
            _say_again(record, speak)
        elif self._logger.isEnabledFor(record.levelno):
            # Not by its `handle()`: Sentry and others watch what loggers handle, and
            # would report each error twice.
            passed: Any = self._logger.filter(record)
            if passed:  # from Python 3.12 on, it may be another record
                record = record if passed is True else passed
                _give(record, _reached(self._logger) or [logging.lastResort])


def _give(
    record: logging.LogRecord, handlers: Iterable[logging.Handler | None]
) -> None:
    for handler in handlers:
        if handler is not None and record.levelno >= handler.level:
            handler.handle(record)


def _reached(logger: logging.Logger) -> list[logging.Handler]:
    above = _reached(logger.parent) if logger.parent and logger.propagate else []
    return [*logger.handlers, *above]


def _say_again(record: logging.LogRecord, speak: Any) -> None:
    """Call a method of gunicorn's logger object with what *record* was made of."""
    args = record.args or ()
    args = args if isinstance(args, tuple) else (args,)  # one mapping is kept bare
    usual = vars(logging.makeLogRecord({})).keys() | FORMATTED
    extra = {name: value for name, value in vars(record).items() if name not in usual}
    more = {"extra": extra} if extra else {}
    speak(record.msg, *args, exc_info=record.exc_info, **more)


def _logger_of(log: Any) -> logging.Logger | None:
    """Return the logger of *log*'s error log; None if it is none of `logging`'s."""
    logger = getattr(log, "error_log", log)
    return logger if isinstance(logger, logging.Logger) else None


_lent = _Lent()


def lend(log: Any) -> None:
    """Send records of ``uvicorn.error`` to *log*, gunicorn's logger object.

    Runs in the arbiter, before each fork, because hooks and a preloaded app log before
    a worker does. Handlers and a level that the logger has already were configured by
    the user (``logconfig``, ``logconfig_dict``, ``logconfig_json``), and stay.
    """
    logger, family = logging.getLogger(UVICORN_ERROR), logging.getLogger(UVICORN)
    _lent.aim(log)
    if not set(logger.handlers) - {_lent}:
        logger.addHandler(_lent)
        if logger.level in (logging.NOTSET, _lent.given) and not family.level:
            level = getattr(log, "loglevel", logging.INFO)
            if gunicorns := _logger_of(log):  # a logconfig may have set another one
                level = gunicorns.getEffectiveLevel()
            _lent.given = level
            logger.setLevel(level)
    # A logconfig that disables existing loggers does not mean this one.
    logger.propagate, logger.disabled = False, False


def settle(log: Any) -> None:
    """Repair the loggers that an app's ``dictConfig()`` changed without naming them.

    Runs in the worker, after each step that may have configured logging. By default
    such a call disables all existing loggers, and one that names ``uvicorn`` resets
    those below it, which then propagate to ``uvicorn`` and to root. A failed boot would
    log nothing, or every line would appear twice. If the app clears ``uvicorn.error``
    so that root's handlers get its records, nothing is changed.
    """
    if logging.getLogger(GUNICORN_ERROR).disabled:
        for name in ALL:
            logging.getLogger(name).disabled = False
    logger = logging.getLogger(UVICORN_ERROR)
    by_itself = logger.handlers or logging.getLogger(UVICORN).handlers
    if by_itself or not logger.hasHandlers():
        lend(log)


def error_descriptor(log: Any) -> int:
    """Return the file descriptor of *log*'s error log, or that of stderr.

    For ``faulthandler``, which writes without the interpreter. Handlers of syslog or of
    a socket have no descriptor to write to, so stderr is used.
    """
    logger = getattr(log, "error_log", logging.getLogger("gunicorn.error"))
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler):
            # With `delay`, or if the file cannot be opened, there is no stream.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                return int(handler.stream.fileno())
    return 2
