"""How lines reach a file or a pipe: all of them, once, whole, with few writes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import io
import logging
import os
import select
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.logging import LogCaptureHandler
from gunicorn.config import Config
from gunicorn.glogging import Logger

from tests.tools.service import wait_for
from uvworker.access.log import AccessLog, plain_handler
from uvworker.access.record import AccessRecord

LINE = "%({n}i)s"


def record_of(number: int, padding: str = "") -> AccessRecord:
    scope = {"type": "http", "headers": [(b"n", f"{number}{padding}".encode())]}
    return AccessRecord(scope, None, 200, [], 0, 0.0, b"/")


@pytest.fixture
def logger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Let gunicorn's own logger write to `access.log`."""
    cfg = Config()
    cfg.set("accesslog", str(tmp_path / "access.log"))
    cfg.set("access_log_format", LINE)
    made = Logger(cfg)
    log = made.access_log
    monkeypatch.setattr(log, "addHandler", deaf_to_pytest(log))
    own = log.handlers[0]
    stream = own.stream
    yield made
    monkeypatch.undo()
    stream.close()
    with contextlib.suppress(OSError, ValueError):  # tests break it on purpose
        own.close()
    for log in (made.access_log, made.error_log):
        log.filters.clear()
        log.handlers.clear()


def deaf_to_pytest(log: logging.Logger) -> Callable[[logging.Handler], None]:
    """Take pytest's own handlers off *log*, and let it add no more for the test."""
    for handler in list(log.handlers):
        if isinstance(handler, LogCaptureHandler):
            log.removeHandler(handler)

    def add(handler: logging.Handler) -> None:
        if not isinstance(handler, LogCaptureHandler):
            logging.Logger.addHandler(log, handler)

    return add


@pytest.fixture
def access_log(logger: Any) -> AccessLog:
    return AccessLog(logger, "gunicorn", LINE)


def read(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().splitlines()]


def on_a_loop(turn: Callable[[], Any]) -> None:
    """Run *turn* within one turn of a loop, and the one after it."""

    async def main() -> None:
        turn()
        await asyncio.sleep(0)

    asyncio.run(main())


def test_the_lines_of_one_turn_are_one_write(
    logger: Any, access_log: AccessLog
) -> None:
    """A packet pipe gives each write back as one read."""
    reading, writing = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)
    logger.access_log.handlers[0].stream.close()
    logger.access_log.handlers[0].stream = os.fdopen(writing, "w")

    async def main() -> None:
        for turn in (range(3), range(3, 5)):
            for number in turn:
                access_log.record(record_of(number))
            with pytest.raises(BlockingIOError):
                os.read(reading, 100)  # nothing before the turn's end
            await asyncio.sleep(0)
            lines = "".join(f"{number}\n" for number in turn)
            assert os.read(reading, 100) == lines.encode()

    asyncio.run(main())
    os.close(reading)


def test_no_write_to_a_pipe_is_so_long_that_it_could_be_torn(
    logger: Any, access_log: AccessLog
) -> None:
    reading, writing = os.pipe2(os.O_DIRECT)
    logger.access_log.handlers[0].stream.close()
    logger.access_log.handlers[0].stream = os.fdopen(writing, "w")
    padding = ["x" * length for length in (1000, 5000, 10, 4090, 1)]

    def turn() -> None:
        for number, letters in enumerate(padding):
            access_log.record(record_of(number, letters))

    on_a_loop(turn)
    logger.access_log.handlers[0].stream.close()
    packets = list(iter(lambda: os.read(reading, 9000), b""))
    os.close(reading)
    lines = [f"{number}{letters}\n".encode() for number, letters in enumerate(padding)]
    # The kernel itself cuts the one line that no write can hold whole.
    assert packets == [
        lines[0],
        lines[1][: select.PIPE_BUF],
        lines[1][select.PIPE_BUF :],
        lines[2],
        lines[3] + lines[4],
    ]


def test_rotation_under_load_loses_and_doubles_no_line(
    tmp_path: Path, logger: Any, access_log: AccessLog
) -> None:
    current = tmp_path / "access.log"

    async def main() -> None:
        for number in range(2000):
            access_log.record(record_of(number))
            if number % 7 == 0:
                await asyncio.sleep(0)
            if number % 100 == 50:  # logrotate, then USR1: often in mid-turn
                current.rename(tmp_path / f"old-{number:04}.log")
                access_log.flush()
                logger.reopen_files()

    asyncio.run(main())
    access_log.flush()
    files = [*sorted(tmp_path.glob("old-*.log")), current]
    assert len(files) == 21
    assert [number for path in files for number in read(path)] == list(range(2000))


def test_a_file_reopened_in_mid_turn_without_a_flush_loses_no_line(
    tmp_path: Path, logger: Any, access_log: AccessLog
) -> None:
    def turn() -> None:
        access_log.record(record_of(1))
        (tmp_path / "access.log").rename(tmp_path / "old.log")
        logger.reopen_files()
        access_log.record(record_of(2))

    on_a_loop(turn)
    assert read(tmp_path / "old.log") == []
    assert read(tmp_path / "access.log") == [1, 2]


def test_what_waits_is_written_at_exit(tmp_path: Path, access_log: AccessLog) -> None:
    """The loop may end before the turn does."""
    loop = asyncio.new_event_loop()
    loop.call_soon(access_log.record, record_of(1))
    loop.stop()
    loop.run_forever()
    loop.close()
    assert read(tmp_path / "access.log") == []
    access_log.flush()
    access_log.flush()
    assert read(tmp_path / "access.log") == [1]


def listener() -> logging.Handler:
    return logging.StreamHandler(io.StringIO())


@pytest.mark.parametrize(
    "change",
    [
        lambda log: log.addHandler(listener()),
        lambda log: log.addFilter(lambda _: True),
        lambda log: log.handlers[0].addFilter(lambda _: True),
        lambda log: log.handlers[0].setFormatter(logging.Formatter("%(message)s.")),
        lambda log: log.handlers[0].setFormatter(type("F", (logging.Formatter,), {})()),
        lambda log: log.handlers[0].setLevel(logging.ERROR),
        lambda log: log.setLevel(logging.ERROR),
        lambda log: setattr(log, "propagate", True),
        lambda log: setattr(log, "disabled", True),
        lambda log: setattr(log.handlers[0], "_gunicorn", False),
        lambda log: log.handlers[0].setStream(io.StringIO()),
        lambda log: log.handlers[0].stream.close(),
        lambda log: log.removeHandler(log.handlers[0]),
    ],
)
def test_only_gunicorns_own_handler_alone_is_written_past(
    logger: Any, change: Callable[[Any], None]
) -> None:
    log = logger.access_log
    assert plain_handler(log) is log.handlers[0]
    disabled, propagate = log.disabled, log.propagate
    change(log)
    try:
        assert plain_handler(log) is None
    finally:
        log.disabled, log.propagate = disabled, propagate


def test_an_app_may_change_the_logging_while_it_runs(
    tmp_path: Path, logger: Any, access_log: AccessLog
) -> None:
    """As apps do at import or startup; a formatter sees gunicorn's atoms."""

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return "1{s}".format(**record.args)  # type: ignore[arg-type]

    on_a_loop(lambda: access_log.record(record_of(1)))
    handler = logger.access_log.handlers[0]
    plain = handler.formatter
    handler.setFormatter(Formatter())
    on_a_loop(lambda: access_log.record(record_of(2)))
    handler.setFormatter(plain)
    on_a_loop(lambda: access_log.record(record_of(3)))
    assert read(tmp_path / "access.log") == [1, 1200, 3]


def test_json_goes_where_logging_sends_it(tmp_path: Path, logger: Any) -> None:
    access_log = AccessLog(logger, "gunicorn", LINE, as_json=True)
    copy = io.StringIO()
    logger.access_log.addHandler(logging.StreamHandler(copy))
    on_a_loop(lambda: access_log.record(record_of(1)))
    assert copy.getvalue() == (tmp_path / "access.log").read_text()
    assert copy.getvalue().startswith('{"time":')


def test_a_line_that_the_files_encoding_lacks_is_escaped(
    tmp_path: Path, logger: Any
) -> None:
    access_log = AccessLog(logger, "gunicorn", "%(U)s")
    path = tmp_path / "ascii.log"
    logger.access_log.handlers[0].stream.close()
    logger.access_log.handlers[0].stream = path.open("a", encoding="ascii")
    record = record_of(1)
    record.target = b"/%C3%A9"
    on_a_loop(lambda: access_log.record(record))
    assert path.read_text() == "/\\xe9\n"


def test_a_full_disk_fails_no_request_and_is_reported(
    logger: Any, access_log: AccessLog, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.access_log.handlers[0].stream.close()
    logger.access_log.handlers[0].stream = Path("/dev/full").open("a")  # noqa: SIM115
    on_a_loop(lambda: access_log.record(record_of(1)))
    assert os.strerror(errno.ENOSPC) in capsys.readouterr().err


WRITER = """
import asyncio, os, sys
from gunicorn.config import Config
from gunicorn.glogging import Logger
from tests.access.test_log import record_of
from uvworker.access.log import AccessLog

os.set_blocking(1, sys.argv[2] == "blocking")
cfg = Config()
cfg.set("accesslog", "-")
access_log = AccessLog(Logger(cfg), "gunicorn", sys.argv[1] + "%({n}i)s.")

async def main():
    for turn in range(100):
        for number in range(64):
            access_log.record(record_of(turn * 64 + number, "x" * 100))
        await asyncio.sleep(0)

asyncio.run(main())
"""


@pytest.mark.parametrize("mode", ["blocking", "non-blocking"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_workers_on_one_full_pipe_lose_no_line_and_mix_none(
    mode: str, unbuffered: str
) -> None:
    """Two workers, 1.4 MB, a pipe of 64 kB, and a reader that begins late."""
    reading, writing = os.pipe()
    environ = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, name, mode], stdout=writing, env=environ
        )
        for name in "ab"
    ]
    os.close(writing)
    wait_until_full(reading)
    with open(reading) as pipe:  # noqa: PTH123  # a descriptor
        lines = pipe.read().splitlines()
    assert [writer.wait(20) for writer in writers] == [0, 0]
    padding = "x" * 100
    for name in "ab":
        own = [line for line in lines if line.startswith(name)]
        assert own == [f"{name}{number}{padding}." for number in range(6400)]
    assert len(lines) == 12_800


def wait_until_full(pipe: int) -> None:
    """Wait until the writers can write no more."""

    def waiting() -> bool:
        answer = fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4)
        return int.from_bytes(answer, sys.byteorder) > 50_000

    wait_for(waiting, "the pipe full")


def test_a_closed_pipe_fails_no_request(
    logger: Any, access_log: AccessLog, capsys: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    logger.access_log.handlers[0].stream.close()
    logger.access_log.handlers[0].stream = os.fdopen(writing, "w")
    on_a_loop(lambda: access_log.record(record_of(1)))
    assert "BrokenPipeError" in capsys.readouterr().err
