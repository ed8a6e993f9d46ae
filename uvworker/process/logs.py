"""Lending gunicorn's logger to uvicorn's loggers, and taking it back.

uvicorn speaks through ``logging.getLogger("uvicorn.error")``. Its records are handed
to the methods of gunicorn's logger object rather than to its handlers, so that a
``logger_class`` of the user's own and statsd's counters see them, and so that
handlers which gunicorn replaces or reopens are never held here.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

UVICORN_ERROR = "uvicorn.error"
GUNICORNS = ("gunicorn.error", "gunicorn.access")


class _Lent(logging.Handler):
    """Hands each record to the gunicorn logger method of its level."""

    def __init__(self, log: Any) -> None:
        super().__init__()
        # Highest first. gunicorn has no method for TRACE and other in-between levels.
        self._methods = (
            (logging.CRITICAL, log.critical),
            (logging.ERROR, log.error),
            (logging.WARNING, log.warning),
            (logging.INFO, log.info),
            (logging.NOTSET, log.debug),
        )

    def emit(self, record: logging.LogRecord) -> None:
        speak = next(
            method for level, method in self._methods if record.levelno >= level
        )
        speak("%s", record.getMessage(), exc_info=record.exc_info)


def enable() -> None:
    """Let gunicorn's loggers speak again after a logconfig that does not name them.

    One that was written for uvicorn's loggers, with ``disable_existing_loggers``, would
    hide a boot that fails and the traceback of every request. Runs in the worker, after
    the fork.
    """
    for name in GUNICORNS:
        logging.getLogger(name).disabled = False


@contextlib.contextmanager
def lent(log: Any) -> Iterator[None]:
    """Let uvicorn's error logger speak through *log*, gunicorn's logger object.

    Runs in the worker, after the fork. A ``uvicorn`` or ``uvicorn.error`` logger with
    handlers of its own was configured by the user (``logconfig``, ``logconfig_dict``,
    ``logconfig_json``) and is left as it is; so is a level.
    """
    logger, family = logging.getLogger(UVICORN_ERROR), logging.getLogger("uvicorn")
    if logger.handlers or family.handlers:
        yield
        return
    before = logger.level, logger.propagate, logger.disabled
    handler = _Lent(log)
    logger.addHandler(handler)
    if not (logger.level or family.level):
        logger.setLevel(getattr(log, "loglevel", logging.INFO))
    # Not disabled: a logconfig that disables existing loggers meant others.
    logger.propagate, logger.disabled = False, False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        _, logger.propagate, logger.disabled = before


def error_descriptor(log: Any) -> int:
    """Return the file descriptor of *log*'s error log, or that of stderr.

    For what writes without the interpreter (``faulthandler``): a syslog or a socket
    has a handler but no file, and then stderr is the nearest.
    """
    logger = getattr(log, "error_log", logging.getLogger("gunicorn.error"))
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler):
            with contextlib.suppress(OSError, ValueError):
                return int(handler.stream.fileno())
    return 2
