"""Log files that are replaced while a worker writes to them.

The rule: no line is lost. A worker that may not open the new file, which the arbiter or
``logrotate`` has made as root, continues with the old one, and says so there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from io import TextIOWrapper
from typing import Any

DENIED = (
    "The log files cannot be reopened, so this worker continues with the old ones: %s. "
    "Let logrotate make the new ones for the worker's user (create MODE USER GROUP), "
    "and send USR1 again."
)


def reopen(how: Callable[[], object], log: Any) -> None:
    """Reopen the files of all loggers by *how*; runs in the worker.

    *how*: closes each file and then opens it, as gunicorn's loggers do. So a second
    descriptor of each is held meanwhile. *log*: gunicorn's logger, for an error.
    """
    old = {
        handler: _again(handler.stream)
        for name in list(logging.root.manager.loggerDict)
        for handler in logging.getLogger(name).handlers
        # With `delay`, there is no stream before the first line.
        if isinstance(handler, logging.FileHandler) and handler.stream
    }
    try:
        how()
    except OSError as error:
        for handler in [closed for closed in old if closed.stream is None]:
            handler.stream = old.pop(handler)
        log.error(DENIED, error)
    finally:
        for stream in old.values():
            stream.close()


def _again(stream: TextIOWrapper) -> TextIOWrapper:
    descriptor = os.dup(stream.fileno())
    return os.fdopen(descriptor, "a", encoding=stream.encoding, errors=stream.errors)
