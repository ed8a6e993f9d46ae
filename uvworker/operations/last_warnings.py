"""The last warnings and errors of the log, in shared memory.

A worker cannot read another's log, and the log may be anywhere. So each process keeps
the last lines that it writes to gunicorn's error log: a row for each worker id, which
outlives the worker, and one for the arbiter.

The rules: a row has one writer, the living worker with its id. A line has a fixed size,
and is what the log says in its first line, without the traceback. A line that a process
repeats is kept once, so that one noisy error does not push out all others.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import suppress

from .facts import LogLine

LOGGER = "gunicorn.error"
LINES = 8  # of each process; distinct ones
SHOWN = 20  # of all of them
LINE = 512  # bytes, so that the lines of a worker are one page of memory

# A line: its number in the row, from 1 and 0 while it is written, microseconds since
# the epoch, level, pid, how often, and bytes of text; then the text.
_NUMBER = struct.Struct("q")
_HEAD = struct.Struct("6q")
_TEXT = LINE - _HEAD.size
MICROSECONDS = 1_000_000  # to the second


class LastWarnings:
    """The rows of all processes. Construct it in the arbiter, before the first fork.

    *slots*: how many workers there can be at a time.
    """

    def __init__(self, slots: int) -> None:
        # The arbiter's row is the first. One that nobody has written takes no memory.
        self._memory = memoryview(mmap.mmap(-1, (slots + 1) * LINES * LINE))
        self._handler: _Handler | None = None

    def keep(self, worker_id: int | None = None) -> None:
        """Keep what this process logs from now on; None: it is the arbiter."""
        logger, handler = logging.getLogger(LOGGER), self._handler
        if handler is None or handler.owner != (os.getpid(), worker_id):
            if handler is not None:
                logger.removeHandler(handler)
            self._handler = handler = _Handler(self._row(worker_id), worker_id)
        logger.addHandler(handler)  # an app may have removed it

    def read(self, workers: int) -> list[LogLine]:
        """Return the last lines of the arbiter and of ids below *workers*, by time."""
        lines = [line for i in (None, *range(workers)) for line in self._lines(i)]
        return sorted(lines, key=lambda line: line.time)[-SHOWN:]

    def last_error(self, worker_id: int, pid: int) -> LogLine | None:
        """Return the last error that the worker in process *pid* logged."""
        errors = (
            line
            for line in self._lines(worker_id)
            if line.pid == pid and line.level in ("ERROR", "CRITICAL")
        )
        return max(errors, key=lambda line: line.time, default=None)

    def _row(self, worker_id: int | None) -> memoryview:
        start = 0 if worker_id is None else worker_id + 1
        return self._memory[start * LINES * LINE : (start + 1) * LINES * LINE]

    def _lines(self, worker_id: int | None) -> Iterator[LogLine]:
        row = self._row(worker_id)
        for start in range(0, LINES * LINE, LINE):
            number, time, level, pid, count, length = _HEAD.unpack_from(row, start)
            if not number:
                continue
            text = bytes(row[start + _HEAD.size :][: min(length, _TEXT)])
            if _NUMBER.unpack_from(row, start) == (number,):
                yield LogLine(
                    time=time / MICROSECONDS,
                    level=logging.getLevelName(level),
                    worker=worker_id,
                    pid=pid,
                    count=count,
                    text=text.decode("utf-8", "ignore"),
                )


class _Handler(logging.Handler):
    """Writes to *row*; `logging` lets one thread of a process in at a time."""

    def __init__(self, row: memoryview, worker_id: int | None) -> None:
        super().__init__(logging.WARNING)
        self.owner = os.getpid(), worker_id
        self._row = row
        # The number of each line; then level, text and how often, of this process.
        self._numbers = [_NUMBER.unpack_from(row, i * LINE)[0] for i in range(LINES)]
        self._said: list[tuple[int, bytes]] = [(0, b"")] * LINES
        self._counts = [0] * LINES

    def emit(self, record: logging.LogRecord) -> None:
        if os.getpid() != self.owner[0]:
            return  # a process that the app forked, or a worker whose own comes next
        with suppress(Exception):  # what the log's own handler complains of
            text = _text(record).encode("utf-8", "replace")[:_TEXT]
            self._write(self._place(record.levelno, text), record.created, text)

    def _place(self, level: int, text: bytes) -> int:
        """Return the index of the same line, or else of the oldest one."""
        said = level, text
        if said in self._said:
            return self._said.index(said)
        index = self._numbers.index(min(self._numbers))
        self._said[index], self._counts[index] = said, 0
        return index

    def _write(self, index: int, created: float, text: bytes) -> None:
        self._counts[index] += 1
        self._numbers[index] = number = max(self._numbers) + 1
        row = self._row[index * LINE : (index + 1) * LINE]
        level, pid, count = self._said[index][0], self.owner[0], self._counts[index]
        time = int(created * MICROSECONDS)
        _HEAD.pack_into(row, 0, 0, time, level, pid, count, len(text))
        row[_HEAD.size : _HEAD.size + len(text)] = text
        _NUMBER.pack_into(row, 0, number)


def _text(record: logging.LogRecord) -> str:
    """Return the first line of the message, and the exception that it is about."""
    text = record.getMessage().strip().partition("\n")[0]
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return text
    cause = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
    return text if cause in text else f"{text}: {cause}"
