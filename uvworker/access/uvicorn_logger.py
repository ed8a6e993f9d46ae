"""The logger `uvicorn.access`: uvicorn's record of a request, for code that expects it.

Apps and log configurations that are written for uvicorn set handlers, filters and
levels on this logger, and uvicorn's own worker put gunicorn's handlers there. So
gunicorn's access log is one handler of it. An app that adds a handler has both logs; an
app that replaces the handlers has only its own; a filter filters both.

The rule of this room: the state of `logging` decides, at each request, and a logger
without handlers costs nothing. The root logger's handlers count only if the app or a
logconfig lets this logger propagate: most apps call `logging.basicConfig()`, and do not
mean an access log by it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

from .format import printable
from .record import AccessRecord, Recorder

NAME, GUNICORNS = "uvicorn.access", "gunicorn.access"
LINE = '%s - "%s %s HTTP/%s" %d'  # exactly uvicorn's: filters may compare it


def arguments_of(record: AccessRecord) -> tuple[str, str, str, str, int]:
    """Return the `args` of uvicorn's record: client, method, path, version, status.

    The path is as in uvicorn: quoted again, with the root path and the query. A request
    that is refused before its first line is read has dashes.
    """
    scope = record.scope
    client = scope.get("client")
    address = f"{client[0]}:{client[1]}" if client else ""
    path = quote(scope.get("path") or "-", errors="replace")
    if query := scope.get("query_string"):
        path += "?" + printable(query.decode("latin-1"))
    version = scope.get("http_version") or "1.1"
    return address, record.method or "-", path, version, record.status


class UvicornLogger:
    """`uvicorn.access`, in one worker; made after the fork, before the app's import.

    Args:
        log: gunicorn's logger, for messages.
        beside: Whether lines are also written to `gunicorn.access`.
        made: Whether a logconfig has set up the loggers.

    """

    def __init__(self, log: Any, *, beside: bool, made: bool) -> None:
        self._log = log
        self._beside, self._made = beside, made
        self._logger = logging.getLogger(NAME)
        self._gunicorns = _Gunicorns()
        self._complained = False
        self._take_over(_reached(logging.getLogger(GUNICORNS)) if beside else ())

    def _take_over(self, theirs: Collection[logging.Handler]) -> None:
        """Read what a logconfig did to the logger, then enable it for the app.

        A handler that gunicorn's logger also has is removed here, or it would write
        each request twice. A level above INFO disables only the handlers of this
        logger, not gunicorn's access log.
        """
        logger, level = self._logger, self._logger.level
        logger.handlers = list(logger.handlers)  # it may be gunicorn's own list
        inherits = 0 < level <= logging.INFO and not logger.handlers
        doubled = any(handler in theirs for handler in _reached(logger.parent))
        logger.propagate = logger.propagate and inherits and not doubled
        for handler in list(logger.handlers):
            if level > logging.INFO or handler in theirs:
                logger.removeHandler(handler)
        logger.setLevel(logging.INFO)
        if self._made:  # a logconfig disables each logger that it does not name
            logger.disabled = False

    def carry(self, write: Recorder) -> None:
        """Add gunicorn's access log as a handler; *write* writes a line of it."""
        self._gunicorns.write = write
        self._logger.addHandler(self._gunicorns)
        self._part()

    def in_front_of(self, write: Recorder) -> Recorder:
        """Add *write* as a handler, and return the recorder to use instead of it."""
        self.carry(write)

        def record(record: AccessRecord) -> None:
            (write if self.is_plain() else self.record)(record)

        return record

    @property
    def carries(self) -> bool:
        """Whether gunicorn's access log has been added as a handler."""
        return self._gunicorns.write is not None

    def settle(self) -> None:
        """Log how the app's startup changed gunicorn's access log."""
        if not self.carries:
            self._warn_of_silence()
            return
        if self._gunicorns in self._logger.handlers:
            self._part()
        elif logging.getLogger(GUNICORNS).hasHandlers():
            self._log.warning(
                "gunicorn's access log is not written: the app removed its handler "
                "from the logger %s.",
                NAME,
            )

    def _warn_of_silence(self) -> None:
        """Warn of handlers on gunicorn's logger, which writes only if it is enabled."""
        kinds = {type(each) for each in logging.getLogger(GUNICORNS).handlers}
        if not self._beside and kinds - {logging.NullHandler}:
            self._log.warning(
                "The logger %s has a handler and gets no lines: set accesslog, or put "
                "the handler on %s.",
                GUNICORNS,
                NAME,
            )

    def _part(self) -> None:
        """Remove gunicorn's handlers that write where one of `uvicorn.access` writes.

        Such as stdout. An app with a handler of its own wants uvicorn's line, once.
        """
        carried = logging.getLogger(GUNICORNS)
        taken = [_place(h) for h in self._logger.handlers]
        for handler in list(carried.handlers):
            if _place(handler) in taken:
                carried.removeHandler(handler)
                self._log.info(
                    "A handler of the logger %s writes to the same place as "
                    "gunicorn's access log, and replaces it there.",
                    NAME,
                )

    def hears(self) -> bool:
        """Return whether a handler would get a record."""
        logger = self._logger
        listening = logger.handlers or (logger.propagate and logger.hasHandlers())
        return bool(listening) and logger.isEnabledFor(logging.INFO)

    def is_plain(self) -> bool:
        """Return whether gunicorn's access log is all that the logger has."""
        logger, gunicorns = self._logger, self._gunicorns
        return (
            logger.handlers == [gunicorns]
            and not (logger.propagate or logger.filters or gunicorns.filters)
            and gunicorns.level <= logging.INFO
            and not gunicorns.formatter
            and logger.isEnabledFor(logging.INFO)
        )

    def record(self, record: AccessRecord) -> None:
        """Log uvicorn's record of a request."""
        if not self.hears():
            return
        if record.scope.get("type") == "websocket":  # uvicorn.error's, with uvicorn
            if self._gunicorns.write and self._gunicorns in self._logger.handlers:
                self._gunicorns.write(record)
            return
        self._gunicorns.record = record
        try:
            self._logger.info(LINE, *arguments_of(record))
        except Exception:  # noqa: BLE001  from a filter of the user's
            self._complain()
        finally:
            self._gunicorns.record = None  # if a filter has dropped it

    def _complain(self) -> None:
        if not self._complained:
            self._complained = True
            self._log.exception(
                "A filter of the logger %s raised an exception; access lines may be "
                "missing. Its record.args is (client, method, path, HTTP version, "
                "status). This is logged once.",
                NAME,
            )


class _Gunicorns(logging.Handler):
    """gunicorn's access log, as a handler of `uvicorn.access`.

    Attributes:
        record: The request whose record is being handled; None within a record that
            the app itself makes.
        write: Writes gunicorn's line of it; None if there is no access log.

    """

    def __init__(self) -> None:
        super().__init__()
        self.record: AccessRecord | None = None
        self.write: Recorder | None = None

    def emit(self, record: logging.LogRecord) -> None:
        request, self.record = self.record, None
        if self.write is None:
            return
        if request is not None and self.formatter is None:
            self.write(request)
            return
        # The app has made the record, or set a formatter: write it to gunicorn's files.
        for handler in _reached(logging.getLogger(GUNICORNS)):
            if record.levelno >= handler.level:
                formatter = handler.formatter
                handler.formatter = self.formatter or formatter
                handler.handle(record)
                handler.formatter = formatter


COMMON = vars(logging.NullHandler()).keys()  # the attributes of each handler


def _place(handler: logging.Handler) -> object:
    """Return what is the same for two handlers that write to the same place."""
    path = getattr(handler, "baseFilename", None)
    if place := path or getattr(handler, "stream", None):
        return place
    if isinstance(handler, logging.NullHandler):
        return handler
    own = vars(handler).keys() - COMMON  # of a class of the user's, as for loguru
    return type(handler), {name: vars(handler)[name] for name in own}


def _reached(logger: logging.Logger | None) -> list[logging.Handler]:
    """Return the handlers that get a record of *logger*."""
    if logger is None:
        return []
    above = _reached(logger.parent) if logger.propagate else []
    return [*logger.handlers, *above]
