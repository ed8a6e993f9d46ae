"""The access log: which lines are written, and how.

gunicorn's logging costs more than serving a small request: a dict of forty atoms, a
`LogRecord`, a lock and a write for each line. If the only handler is gunicorn's own,
for a file or stdout, the lines of one turn of the loop are written with one `write`
instead. With any other handler, the logger `gunicorn.access` is called as gunicorn's
own workers call it.

The rule of this room: both ways write the same lines.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import stat
from collections.abc import Callable, Iterator
from typing import Any, Literal

from .format import Render, compile_format, compile_json
from .gunicorn_logger import through_access_log
from .gunicorn_objects import statsd_metrics, through_logger
from .record import AccessRecord, Recorder, together
from .uvicorn_logger import UvicornLogger

LoggerKind = Literal["gunicorn", "statsd", "custom"]


class AccessLog:
    """The access log of one worker; made after the fork.

    Args:
        logger: gunicorn's logger, `worker.log`.
        kind: Whether its class is exactly gunicorn's `Logger`, exactly its
            `Statsd`, or another. If another class overrides `access()`, that gets
            every request, and decides whether to write.
        line_format: gunicorn's `access_log_format`.
        as_json: Write a JSON object per line instead.
        lines: False for no lines, even if the logger would write some. Metrics are
            sent nevertheless.
        worker_id: The worker's number, for the JSON objects.
        uvicorns: The logger `uvicorn.access`; None to ignore it.

    Attributes:
        record: Takes each record; None if neither a log nor a metric needs one.
        wanted: Called at each new connection; returns whether `record` is needed at
            present. None if it always is.

    Raises:
        ValueError: The format cannot be used, or JSON is set for a logger that
            writes its own lines.

    """

    def __init__(
        self,
        logger: Any,
        kind: LoggerKind,
        line_format: str,
        *,
        as_json: bool = False,
        lines: bool = True,
        worker_id: int | None = None,
        uvicorns: UvicornLogger | None = None,
    ) -> None:
        self._turn: _Turn | None = None
        self.record: Recorder | None = None
        self.wanted: Callable[[], bool] | None = None
        self._uvicorns = uvicorns
        if kind == "custom" and lines:
            self.record = _custom(logger, uvicorns, as_json=as_json)
        elif lines and is_enabled(logger):
            self._turn = (
                _json_turn(logger, worker_id)
                if as_json
                else _line_turn(logger, line_format)
            )
            self.record = self._turn.record
        if kind == "statsd":
            self.record = together(self.record, statsd_metrics(logger))
        if uvicorns is not None:
            self._join(uvicorns)

    def _join(self, uvicorns: UvicornLogger) -> None:
        """Send each record to `uvicorn.access`: through it, or as well."""
        if self._turn is not None:
            self._turn.come_through(uvicorns)
        elif not uvicorns.carries:
            self.wanted = None if self.record else uvicorns.hears
            self.record = together(self.record, uvicorns.record)

    def settle(self) -> None:
        """Log how the app's startup changed the access log."""
        if self._uvicorns is not None:
            self._uvicorns.settle()

    def flush(self) -> None:
        """Write the lines of this turn now: before log files reopen, and at exit.

        May be called from a signal handler: no line is written twice.
        """
        if self._turn is not None:
            self._turn.flush()

    def forget(self) -> None:
        """Drop the lines of this turn, in a process that the app forks.

        Its parent writes them.
        """
        if self._turn is not None:
            self._turn.forget()


def is_enabled(logger: Any) -> bool:
    """Return whether gunicorn's own logger writes access lines."""
    enabled = getattr(logger, "access_log_enabled", None)
    if enabled is None:  # gunicorn before 24 evaluates this at every request
        cfg = logger.cfg
        enabled = (
            cfg.accesslog
            or has_logconfig(cfg)
            or (cfg.syslog and not cfg.disable_redirect_access_to_syslog)
        )
    return bool(enabled)


def has_logconfig(cfg: Any) -> bool:
    """Return whether one of gunicorn's settings for it sets up the loggers."""
    return bool(cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json)


def inherited(cfg: Any) -> str:
    """Return a sentence if a logconfig enables the access log without naming it.

    gunicorn enables it with any logconfig; uvicorn's worker did not.
    """
    access_log = logging.getLogger("gunicorn.access")
    asked_for = cfg.accesslog or cfg.syslog or access_log.handlers
    if asked_for or not (has_logconfig(cfg) and access_log.hasHandlers()):
        return ""
    return (
        "The logconfig enables the access log, on the handlers that the logger "
        "gunicorn.access inherits; access_log = False (UVICORN_ACCESS_LOG=false) "
        "disables it."
    )


def is_written(logger: Any) -> bool:
    """Return whether gunicorn's logger or a `logger_class` writes access lines."""
    return not _inherits(logger) or is_enabled(logger)


def _inherits(logger: Any) -> bool:
    return bool(type(logger).access.__module__ == "gunicorn.glogging")


def _custom(
    logger: Any, uvicorns: UvicornLogger | None, *, as_json: bool
) -> Recorder | None:
    """Return a recorder for a `logger_class` of the user's, None if it does nothing."""
    if not is_written(logger):
        return None
    if as_json:
        raise ValueError(
            f"access_log_json: logger_class {type(logger).__name__} writes its own "
            "access lines, not JSON; unset one of the two"
        )
    if not _inherits(logger):
        return through_logger(logger.access, logger)
    write = through_access_log(logger)
    return write if uvicorns is None else uvicorns.in_front_of(write)


def _line_turn(logger: Any, line_format: str) -> _Turn:
    """Pair the fast path with gunicorn's logger, for when it cannot be used."""
    return _Turn(
        logger.access_log, compile_format(line_format), through_access_log(logger)
    )


def _json_turn(logger: Any, worker_id: int | None) -> _Turn:
    """Do the same for JSON."""
    render = compile_json(worker_id)
    return _Turn(logger.access_log, render, through_access_log(logger, render))


def plain_handler(access_log: logging.Logger) -> logging.StreamHandler[Any] | None:
    """Return the one handler of `access_log` if a bare write does the same.

    That is so if gunicorn made it for `accesslog`, its formatter adds nothing,
    there is no filter, and no other handler, of a parent or for syslog. An app may
    change this while it runs, so it is checked once a turn.
    """
    if len(access_log.handlers) != 1:
        return None
    handler = access_log.handlers[0]
    formatter = handler.formatter
    if (
        isinstance(handler, logging.StreamHandler)
        and type(handler) in (logging.StreamHandler, logging.FileHandler)
        and getattr(handler, "_gunicorn", False)
        and type(formatter) is logging.Formatter
        and formatter._fmt == "%(message)s"  # noqa: SLF001  # has no public name
        and not (access_log.propagate or access_log.filters or handler.filters)
        and handler.level <= logging.INFO
        and access_log.isEnabledFor(logging.INFO)
        and _has_descriptor(handler.stream)
    ):
        return handler
    return None


def _has_descriptor(stream: Any) -> bool:
    try:
        stream.fileno()
    except (AttributeError, OSError, ValueError):  # none, not a file's, closed
        return False
    return True


class _Turn:
    """The lines of one turn of the event loop, and their one write.

    Args:
        access_log: The logger `gunicorn.access`.
        render: Makes the line.
        otherwise: Takes the records while `plain_handler` returns None.

    """

    def __init__(
        self, access_log: logging.Logger, render: Render, otherwise: Recorder
    ) -> None:
        self._access_log = access_log
        self._render = render
        self._otherwise = otherwise
        self._handler: logging.StreamHandler[Any] | None = None
        self._lines: list[str] = []
        self._uvicorns: UvicornLogger | None = None
        self._apart = False  # this turn's records go through `uvicorn.access`

    def come_through(self, uvicorns: UvicornLogger) -> None:
        """Write only the records that come through `uvicorn.access`."""
        self._uvicorns = uvicorns
        uvicorns.carry(self._write)

    def record(self, record: AccessRecord) -> None:
        """Keep the line of `record` until the turn's end; runs on the loop."""
        if not self._lines and self._uvicorns is not None:
            self._apart = not self._uvicorns.is_plain()
        if self._apart and self._uvicorns is not None:
            self._uvicorns.record(record)
        else:
            self._write(record)

    def _write(self, record: AccessRecord) -> None:
        if not self._lines:
            self._handler = plain_handler(self._access_log)
            if self._handler is None:
                self._otherwise(record)
                return
            asyncio.get_running_loop().call_soon(self.flush)
        self._lines.append(self._render(record))

    def flush(self) -> None:
        """Write the pending lines, if any."""
        lines, self._lines = self._lines, []
        if lines and self._handler is not None:
            _write_lines(self._handler, lines)

    def forget(self) -> None:
        """Drop the pending lines."""
        self._lines = []


def _write_lines(handler: logging.StreamHandler[Any], lines: list[str]) -> None:
    """Write all of `lines`, or report the failure as `logging` does.

    They go to the stream's descriptor: an unbuffered stdout (`python -u`) silently
    drops what is left after a short write.
    """
    text = handler.terminator.join(lines) + handler.terminator
    handler.acquire()
    try:
        stream = handler.stream
        stream.flush()  # what the app has printed before
        encoding = getattr(stream, "encoding", None) or "utf-8"
        for piece in _pieces(text.encode(encoding, "backslashreplace"), stream):
            _write_whole(stream.fileno(), piece)
    except Exception:  # noqa: BLE001  # a full disk is no reason to fail a request
        handler.handleError(logging.makeLogRecord({"msg": text}))
    finally:
        handler.release()


def _pieces(data: bytes, stream: Any) -> Iterator[bytes]:
    """Split `data` at line ends into pieces that a single write keeps together.

    Appends to a file never mix. A pipe keeps writes of up to `PIPE_BUF` bytes
    together (POSIX), and stdout is often a pipe that all workers share.
    """
    if len(data) <= select.PIPE_BUF or stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        yield data
        return
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + select.PIPE_BUF) + 1
        if not end:  # a line longer than that: by itself, as gunicorn writes it
            end = data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end


def _write_whole(descriptor: int, data: bytes) -> None:
    """Write all of `data`; wait for the reader of a full pipe, as gunicorn does.

    A pipe may have been made non-blocking by any process that shares it.
    """
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # noqa: PERF203  # the loop is there for it
            writable = select.poll()
            writable.register(descriptor, select.POLLOUT)
            writable.poll()
