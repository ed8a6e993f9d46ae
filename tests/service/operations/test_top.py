"""`python -m uvworker top`, in a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import HELLO, Serve
from tests.service.operations.conftest import Operate
from tests.tools.apps import LIFE
from tests.tools.service import PATIENCE, wait_for

# Makes the terminal on its standard input its own, so that Ctrl-C is a signal; which is
# ignored at first, as in what a script starts in the background.
LOGIN = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGINT, signal.SIG_IGN)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "uvworker", "top", *sys.argv[1:]])
"""
HOME, LAST, LEAVE = "\x1b[H", "\x1b[J", "\x1b[?1049l"


class Terminal:
    """A terminal with ``top`` in it; `screen` is what it shows."""

    def __init__(self, address: str) -> None:
        self.keyboard, self.tty = pty.openpty()
        self.resize(24, 80)
        self.before = termios.tcgetattr(self.tty)
        self.output = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOGIN, address],
            **dict.fromkeys(("stdin", "stdout", "stderr"), self.tty),
            start_new_session=True,
        )

    def resize(self, rows: int, columns: int) -> None:
        size = struct.pack("4H", rows, columns, 0, 0)
        fcntl.ioctl(self.keyboard, termios.TIOCSWINSZ, size)

    def press(self, key: bytes) -> None:
        os.write(self.keyboard, key)

    def screen(self) -> list[str]:
        """Return the lines that were drawn last."""
        while select.select([self.keyboard], [], [], 0)[0]:
            self.output += os.read(self.keyboard, 65536).decode()
        drawn = self.output.rpartition(LAST)[0].rpartition(HOME)[2]
        return drawn.replace("\r", "").replace("\x1b[K", "").split("\n")

    def wait(self, fact: Callable[[list[str]], object], what: str) -> list[str]:
        return wait_for(lambda: fact(lines := self.screen()) and lines, what)

    def ended(self) -> int:
        """Wait for its end, check that the terminal is as before, return the code."""
        code = self.process.wait(PATIENCE)
        self.screen()
        assert self.output.endswith(LEAVE)
        assert termios.tcgetattr(self.tty) == self.before
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        os.close(self.keyboard)
        os.close(self.tty)


Open = Callable[[str], Terminal]


@pytest.fixture
def terminal() -> Iterator[Open]:
    opened: list[Terminal] = []

    def open_(url: str) -> Terminal:
        opened.append(Terminal(url.removeprefix("http://")))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


def test_it_shows_the_workers_and_their_requests(
    operate: Operate, terminal: Open, tmp_path: Path
) -> None:
    (tmp_path / "hold-request").touch()
    operated = operate(LIFE, "-w", "2", wait=2, UVWORKER_OPS_REQUESTS="true")
    operated.service.begin("/held?token=secret")
    top = terminal(operated.url)
    lines = top.wait(lambda lines: lines[-1].endswith("  GET /held"), "the request")
    assert lines[0] == "ready: 2 of 2 workers serve"
    for worker in operated.service.workers():
        assert any(f" {worker} " in line and " serving " in line for line in lines)
    [killed, _] = operated.service.workers()
    operated.service.kill(signal.SIGKILL, killed)
    top.wait(
        lambda lines: (
            "2 of 2" in lines[0] and not any(f" {killed} " in line for line in lines)
        ),
        "the successor",
    )
    (tmp_path / "hold-request").unlink()
    top.press(b"q")
    assert top.ended() == 0


@pytest.mark.parametrize("end", ["Ctrl-C", "q", "TERM"])
def test_it_leaves_the_terminal_as_it_was(terminal: Open, end: str, port: int) -> None:
    top = terminal(f"127.0.0.1:{port}")
    top.wait(lambda lines: "No uvworker answers on" in lines[0], "an answer")
    if end == "TERM":
        top.process.terminate()
    else:
        top.press({"Ctrl-C": b"\x03", "q": b"q"}[end])
    assert top.ended() == 0


def test_it_draws_anew_in_a_terminal_of_another_size(
    operate: Operate, terminal: Open
) -> None:
    top = terminal(operate().url)
    top.wait(lambda lines: max(map(len, lines)) > 40, "wide lines")
    top.resize(3, 40)
    lines = top.wait(lambda lines: max(map(len, lines)) <= 40, "narrow lines")
    assert len(lines) <= 3
    top.press(b"q")
    assert top.ended() == 0


def test_it_goes_on_through_a_restart_of_the_service(
    serve: Serve, terminal: Open, port: int
) -> None:
    env = {"UVWORKER_OPS_BIND": f"127.0.0.1:{port}"}
    service = serve(HELLO, env=env)
    top = terminal(f"127.0.0.1:{port}")
    top.wait(lambda lines: lines[0].startswith("ready"), "the service")
    assert service.stop() == 0
    lines = top.wait(lambda lines: lines[0].startswith("No uvworker"), "that it went")
    assert lines[1].startswith("ready")  # with its age in the line above
    again = serve(HELLO, env=env, wait=0)
    arbiter = f"arbiter {again.pid}"
    top.wait(lambda lines: arbiter in lines[1] and "ready: 1" in lines[0], "the next")
    top.press(b"q")
    assert top.ended() == 0


def test_it_can_be_suspended(terminal: Open, port: int) -> None:
    top = terminal(f"127.0.0.1:{port}")
    top.wait(lambda lines: "No uvworker answers on" in lines[0], "an answer")
    os.kill(top.process.pid, signal.SIGTSTP)
    wait_for(lambda: _stopped(top.process.pid), "it is stopped")
    assert termios.tcgetattr(top.tty) == top.before
    top.screen()
    top.output = ""
    os.kill(top.process.pid, signal.SIGCONT)
    top.wait(lambda lines: "No uvworker answers on" in lines[0], "it draws again")
    top.press(b"q")
    assert top.ended() == 0


def _stopped(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"


def test_it_needs_a_terminal(port: int) -> None:
    command = [sys.executable, "-m", "uvworker", "top", f"127.0.0.1:{port}"]
    asked = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert asked.returncode == 2
    assert asked.stderr == "top needs a terminal; `status` is for scripts.\n"
