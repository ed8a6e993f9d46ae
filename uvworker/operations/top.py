"""``python -m uvworker top``: a running service, live in a terminal.

It writes ANSI sequences by itself: images without terminal descriptions cannot use
curses. The rule: whatever ends or suspends it, the terminal is as it was before.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from .client import Unreachable, add_address, parse
from .figures import age
from .status import COLUMNS, fetch, render

PERIOD = 1.0  # seconds; a worker publishes its counts once a second
QUIT = (b"q", b"Q", b"\x04")  # keys; \x04: Ctrl-D

# The alternate screen, without a cursor and without wrapped lines, and back.
ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l"
LEAVE = b"\x1b[?7h\x1b[?25h\x1b[?1049l"
HOME, END_OF_LINE, END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"

TOP_COLUMNS = {"id": "id", "pid": "pid", "rate": "req/s", **COLUMNS}


def run(arguments: list[str]) -> int:
    """Run the command until a key ends it; its exit code is then 0."""
    parser = argparse.ArgumentParser(
        "python -m uvworker top", description="q or Ctrl-C ends it."
    )
    add_address(parser)
    address = parse(parser, arguments).address
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        sys.stderr.write("top needs a terminal; `status` is for scripts.\n")
        return 2
    wake, waker = os.pipe()
    os.set_blocking(waker, False)  # as `signal.set_wakeup_fd` demands
    watch = Watch(address, waker)
    try:
        with _screen(waker):
            watch.start()
            while not _quits(wake):
                _draw(watch.lines())
    except KeyboardInterrupt:
        pass
    return 0


class Watch:
    """Asks the service once a period, in a thread: it may take long to answer.

    *waker*: a descriptor that gets a byte when there is something new to draw.
    """

    def __init__(self, address: str, waker: int) -> None:
        self._address = address
        self._waker = waker
        self._said = f"Waiting for {address} ..."
        self._shown: list[str] = []  # of the last answer
        self._answered_at = 0.0
        self._requests: dict[int, int] = {}  # answered then, by pid

    def start(self) -> None:
        """Begin to ask."""
        threading.Thread(target=self._ask, daemon=True).start()

    def lines(self) -> list[str]:
        """Return what is known now."""
        return [self._said, *self._shown] if self._said else self._shown

    def _ask(self) -> NoReturn:
        while True:
            try:
                self._take(fetch(self._address), time.monotonic())
                self._said = ""
            except Unreachable as error:
                since = age(time.monotonic() - self._answered_at)
                last = f" What follows is {since} old." if self._shown else ""
                self._said = f"{error}.{last}"
            os.write(self._waker, b"!")
            time.sleep(PERIOD)

    def _take(self, status: dict[str, Any], now: float) -> None:
        passed, self._answered_at = now - self._answered_at, now
        before = self._requests
        workers = status["workers"]
        self._requests = {worker["pid"]: worker["requests"] for worker in workers}
        for worker in workers:
            known = before.get(worker["pid"])
            worker["rate"] = (
                None if known is None else (worker["requests"] - known) / passed
            )
        self._shown = [*render(status, TOP_COLUMNS).splitlines(), *_in_flight(status)]


def _in_flight(status: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each request that is listed, the oldest first."""
    if status["requests_in_flight"]:
        yield ""
        yield "requests in flight: age, worker, request"
        for each in status["requests_in_flight"]:
            where = f"{age(each['age']):>6} {each['worker']:>4}"
            yield f"{where}  {each['method']} {each['path']}"


def _draw(lines: list[str]) -> None:
    """Draw as much as there is room for; paths may hold any characters."""
    columns, rows = os.get_terminal_size(sys.stdout.fileno())
    shown = (
        "".join(c if c.isprintable() else "?" for c in line[:columns]) + END_OF_LINE
        for line in lines[:rows]
    )
    _write((HOME + "\r\n".join(shown) + END_OF_SCREEN).encode(errors="replace"))


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]


def _quits(wake: int) -> bool:
    """Wait for a key, an answer or a signal; return whether a key ends it."""
    keyboard = sys.stdin.fileno()
    ready, _, _ = select.select([keyboard, wake], [], [])
    if wake in ready:
        os.read(wake, 1024)
    if keyboard not in ready:
        return False
    key = os.read(keyboard, 1024)
    return not key or key in QUIT  # none: the terminal is gone


@contextmanager
def _screen(waker: int) -> Iterator[None]:
    """Take the terminal's screen and keys; a signal that comes wakes *waker*."""
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)

    def enter() -> None:
        tty.setcbreak(keyboard)
        _write(ENTER)

    def leave() -> None:
        _write(LEAVE)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)

    def suspend(*_: Any) -> None:
        leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        enter()

    handlers = {
        # Also where it is ignored, as in the background of a script.
        signal.SIGINT: signal.default_int_handler,
        signal.SIGWINCH: lambda *_: None,
        signal.SIGTSTP: suspend,
        signal.SIGTERM: lambda *_: sys.exit(0),
    }
    previous = {number: signal.signal(number, handlers[number]) for number in handlers}
    previous_waker = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    try:
        enter()
        yield
    finally:
        leave()
        signal.set_wakeup_fd(previous_waker)
        for number, handler in previous.items():
            signal.signal(number, handler)
