"""The access log: which lines are written, and how they reach the disk.

gunicorn's logging costs more than the request it tells of: a dict of forty
atoms, a `LogRecord`, a lock and a write for each. Where nothing but gunicorn's
own file or stdout handler listens, the lines of one turn of the loop are
written with one `write` instead; where anything else does, its own
`logger.access()` is called, as its own workers call it.

The rule of this room: nobody can tell the two apart, but by the cost.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import stat
from collections.abc import Iterator
from typing import Any, Literal

from .accessformat import Render, compile_format, compile_json
from .accessrecord import AccessRecord, Recorder, together
from .gunicornshape import statsd_metrics, through_logger

LoggerKind = Literal["gunicorn", "statsd", "custom"]


class AccessLog:
    """What the settings make of a record, for one worker after the fork.

    Args:
        logger: gunicorn's logger, `worker.log`.
        kind: Whether its class is exactly gunicorn's `Logger`, exactly its
            `Statsd`, or another: an `access()` of that one's own gets every
            request, and whether to write is its affair.
        line_format: gunicorn's `access_log_format`.
        as_json: Write a JSON object per line instead.
        lines: False: no lines, whatever the logger would write; metrics all the same.
        worker_id: What the JSON objects name as their worker.

    Attributes:
        record: Takes each record; None if no log and no metric wants one.

    Raises:
        ValueError: The format cannot be used, or JSON is wanted of a logger
            that writes its own lines.

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
    ) -> None:
        self._turn: _Turn | None = None
        self.record: Recorder | None = None
        if kind == "custom" and not lines:
            return
        if kind == "custom":
            self.record = _custom(logger, as_json=as_json)
            return
        if lines and is_enabled(logger):
            self._turn = (
                _json_turn(logger, worker_id)
                if as_json
                else _line_turn(logger, kind, line_format)
            )
            self.record = self._turn.record
        if kind == "statsd":
            self.record = together(self.record, statsd_metrics(logger))

    def flush(self) -> None:
        """Write what waits for the turn's end: before log files reopen, at exit.

        May be called from a signal handler: no line is written twice.
        """
        if self._turn is not None:
            self._turn.flush()


def is_enabled(logger: Any) -> bool:
    """Say whether gunicorn's own logger would write access lines at all."""
    enabled = getattr(logger, "access_log_enabled", None)
    if enabled is None:  # gunicorn before 24 asks the same at every request
        cfg = logger.cfg
        enabled = (
            cfg.accesslog
            or cfg.logconfig
            or cfg.logconfig_dict
            or cfg.logconfig_json
            or (cfg.syslog and not cfg.disable_redirect_access_to_syslog)
        )
    return bool(enabled)


def _custom(logger: Any, *, as_json: bool) -> Recorder | None:
    """Leave everything to a `logger_class` of the user's, if it would do anything."""
    inherited = type(logger).access.__module__ == "gunicorn.glogging"
    if inherited and not is_enabled(logger):
        return None
    if as_json:
        raise ValueError(
            f"access_log_json: logger_class {type(logger).__name__} writes its own "
            "access lines; unset one of the two"
        )
    return through_logger(logger.access, logger)


def _line_turn(logger: Any, kind: LoggerKind, line_format: str) -> _Turn:
    """Pair the fast path with gunicorn's own `access()`, which stands in for it."""
    # Without the metrics of `Statsd`, which count on either path.
    base: Any = super(type(logger), logger) if kind == "statsd" else logger
    otherwise = through_logger(base.access, logger)
    return _Turn(logger.access_log, compile_format(line_format), otherwise)


def _json_turn(logger: Any, worker_id: int | None) -> _Turn:
    """Pair the fast path with the logger that stands in for it."""
    access_log: logging.Logger = logger.access_log
    render = compile_json(worker_id)
    return _Turn(access_log, render, lambda record: access_log.info(render(record)))


def plain_handler(access_log: logging.Logger) -> logging.StreamHandler[Any] | None:
    """Return the one handler of `access_log` if a bare write does all it would.

    That is so if gunicorn made it for `accesslog`, its formatter adds nothing,
    nothing filters, and no other handler listens, a parent's or syslog's. An
    app may change any of this while it runs: ask once a turn, not once.
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
        otherwise: Takes the records while `access_log` is not plain.

    """

    def __init__(
        self, access_log: logging.Logger, render: Render, otherwise: Recorder
    ) -> None:
        self._access_log = access_log
        self._render = render
        self._otherwise = otherwise
        self._handler: logging.StreamHandler[Any] | None = None
        self._lines: list[str] = []

    def record(self, record: AccessRecord) -> None:
        """Keep the line of `record` until the turn's end; runs on the loop."""
        if not self._lines:
            self._handler = plain_handler(self._access_log)
            if self._handler is None:
                self._otherwise(record)
                return
            asyncio.get_running_loop().call_soon(self.flush)
        self._lines.append(self._render(record))

    def flush(self) -> None:
        """Write the lines that wait, if any."""
        lines, self._lines = self._lines, []
        if lines and self._handler is not None:
            _write_lines(self._handler, lines)


def _write_lines(handler: logging.StreamHandler[Any], lines: list[str]) -> None:
    """Write all of `lines`, or report as logging does that it cannot be done.

    Past the stream, to its descriptor: an unbuffered stdout (`python -u`) drops
    without a word what a short write has left.
    """
    text = handler.terminator.join(lines) + handler.terminator
    handler.acquire()
    try:
        stream = handler.stream
        stream.flush()  # what the app has printed comes first
        encoding = getattr(stream, "encoding", None) or "utf-8"
        for piece in _pieces(text.encode(encoding, "backslashreplace"), stream):
            _write_whole(stream.fileno(), piece)
    except Exception:  # noqa: BLE001  # a full disk is no reason to fail a request
        handler.handleError(logging.makeLogRecord({"msg": text}))
    finally:
        handler.release()


def _pieces(data: bytes, stream: Any) -> Iterator[bytes]:
    """Split `data` at line ends into what a single write puts down unmixed.

    An append to a file is never torn by another worker's. A pipe keeps only
    writes of up to `PIPE_BUF` bytes whole (POSIX), and stdout often is one that
    all workers share.
    """
    if len(data) <= select.PIPE_BUF or stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        yield data
        return
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + select.PIPE_BUF) + 1
        if not end:  # one line longer than that: alone, as gunicorn writes it
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
