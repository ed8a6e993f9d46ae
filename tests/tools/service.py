"""A real gunicorn with real workers, started for one test and stopped after it.

Everything here waits for a fact with a deadline; nothing sleeps a guessed time. A
service runs in a session of its own, so that a test finds every process that it leaves.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from gunicorn.config import KNOWN_SETTINGS

T = TypeVar("T")

PATIENCE = 20.0  # seconds until a fact that does not come is a failure
READY = "Application startup complete"

SETTINGS = {setting.name for setting in KNOWN_SETTINGS}  # of the installed gunicorn

# No control socket: its default path is one for all gunicorns of a user.
CONF = "control_socket_disable = True\n" * ("control_socket_disable" in SETTINGS)


def gunicorn_lacks(setting: str) -> pytest.MarkDecorator:
    """Skip a test where the installed gunicorn does not have *setting*."""
    reason = f"this gunicorn has no setting {setting}"
    return pytest.mark.skipif(setting not in SETTINGS, reason=reason)


def wait_for(fact: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """Return the first true value of *fact*, or fail saying *what* did not happen."""
    deadline = time.monotonic() + patience
    while not (value := fact()):
        assert time.monotonic() < deadline, f"not within {patience} s: {what}"
        time.sleep(0.01)
    return value


class Service:
    """``gunicorn -k uvworker.Worker`` in *directory*, which holds ``main.py``."""

    def __init__(
        self,
        directory: Path,
        *args: str,
        app: str = "main:app",
        bind: str = "127.0.0.1:0",
        env: dict[str, str | None] | None = None,
        under: tuple[str, ...] = (),
        worker: str = "uvworker.Worker",
        **popen: Any,
    ) -> None:
        self.directory = directory
        logs = directory / "logs"  # where no reloader watches for changed sources
        logs.mkdir(exist_ok=True)
        self.log_path = logs / "stderr"
        self.out_path = logs / "stdout"
        # The script: `python -m gunicorn` does not survive USR2, which starts it as a
        # file, so that gunicorn's own `http` hides that of the standard library.
        gunicorn = Path(sys.executable).with_name("gunicorn")
        command = [*under, sys.executable, str(gunicorn)]
        command += ["-k", worker] if worker else []
        command += ["-b", bind] if bind else []
        with self.log_path.open("ab") as err, self.out_path.open("ab") as out:
            self.process = subprocess.Popen(
                [*command, *args, *([app] if app else [])],
                cwd=directory,
                env=_environment(env or {}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                **popen,
            )
        self.pid = self.sid = self.process.pid
        self._connections: list[http.client.HTTPConnection] = []

    # Its output

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def out(self) -> str:
        return self.out_path.read_text(errors="replace")

    def wait_log(self, pattern: str, count: int = 1) -> list[re.Match[str]]:
        """Wait until *pattern* is *count* times in the error log."""

        def found() -> list[re.Match[str]] | None:
            matches = list(re.finditer(pattern, self.log))
            if len(matches) >= count:
                return matches
            self._still_alive(pattern)
            return None

        return wait_for(found, f"{count} x {pattern!r} in the log")

    def _still_alive(self, pattern: str) -> None:
        if not alive(self.pid) and not re.search(pattern, self.log):
            raise AssertionError(f"gunicorn has ended and never logged {pattern!r}")

    def ready(self, workers: int = 1) -> Service:
        self.wait_log(READY, workers)
        return self

    def said(self, what: str) -> list[int]:
        """Return the pids that printed *what*, by `tests.tools.apps.SAY`, in order."""
        lines = [line.split(" ", 1) for line in self.out.splitlines()]
        return [int(line[0]) for line in lines if line[1:] == [what]]

    def wait_said(self, what: str, count: int = 1) -> list[int]:
        def enough() -> list[int] | None:
            said = self.said(what)
            return said if len(said) >= count else None

        return wait_for(enough, f"{count} x {what!r} on stdout")

    # Its address

    @property
    def port(self) -> int:
        return int(self.wait_log(r"Listening at: https?://[^\s,]+:(\d+)")[0][1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str = "/", **kwargs: Any) -> httpx.Response:
        return httpx.get(self.url + path, **{"timeout": PATIENCE, **kwargs})

    def begin(self, path: str = "/") -> http.client.HTTPConnection:
        """Send a request; ``getresponse()`` on what is returned awaits the answer."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=PATIENCE
        )
        self._connections.append(connection)
        connection.request("GET", path)
        return connection

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def refuses(self) -> bool:
        """Whether connections are refused."""
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return True
        return False

    # Its processes

    def workers(self, arbiter: int | None = None) -> list[int]:
        """Return the pids of the living children of the arbiter."""
        pid = arbiter or self.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return []
        return [int(child) for child in children.split() if alive(int(child))]

    def kill(self, signum: signal.Signals, pid: int | None = None) -> None:
        os.kill(pid or self.pid, signum)

    def wait_gone(self, pid: int) -> None:
        wait_for(lambda: not alive(pid), f"process {pid} gone")

    def wait_exit(self) -> int:
        """Wait for the arbiter's end and return its exit code."""
        return self.process.wait(PATIENCE)

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        self.kill(signum)
        return self.wait_exit()

    def adopt(self, arbiter: int) -> None:
        """Continue with another arbiter of this service: a daemon, or after USR2."""
        self.pid, self.sid = arbiter, os.getsid(arbiter)

    def session(self) -> list[int]:
        """Return every living process of the service, orphans included."""
        return [pid for pid, sid in _sessions() if sid == self.sid and alive(pid)]

    def sweep(self) -> list[int]:
        """Kill the processes that are left of the service, and return their pids."""
        for connection in self._connections:
            connection.close()
        left = self.session()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        return left


@contextmanager
def reserved_port() -> Iterator[int]:
    """Bind a port that only a listener which names it can share."""
    with socket.socket() as holder:
        for option in socket.SO_REUSEADDR, socket.SO_REUSEPORT:
            holder.setsockopt(socket.SOL_SOCKET, option, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


def _environment(changes: dict[str, str | None]) -> dict[str, str]:
    """Return this process's environment with *changes*; None removes a name."""
    ours = {"PYTHONUNBUFFERED": "1", "UVWORKER_SOAK": None}  # which is no option
    changed = {**os.environ, **ours, **changes}
    return {name: value for name, value in changed.items() if value is not None}


def alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return _stat(pid)[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name, which may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _sessions() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), int(_stat(int(entry.name))[3])
            except (FileNotFoundError, ProcessLookupError):
                continue


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def open_files(pid: int) -> dict[Path, str]:
    """Return what each descriptor of a process, in /proc, is open on."""
    found = {}
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            found[fd] = str(fd.readlink())
    return found


def heartbeat_files(worker: int) -> dict[Path, str]:
    files = open_files(worker).items()
    return {fd: name for fd, name in files if "/wgunicorn-" in name}


def _last_beat(worker: int) -> float:
    """Return when the worker sent its last heartbeat, on the monotonic clock."""
    [fd] = heartbeat_files(worker)
    return fd.stat().st_mtime


def beats(worker: int, lasting: float) -> list[float]:
    """Watch the worker's heartbeats until they span *lasting* seconds."""
    seen: list[float] = []

    def spanned() -> bool:
        beat = _last_beat(worker)
        if beat not in seen[-1:]:
            seen.append(beat)
        return len(seen) > 2 and seen[-1] - seen[1] > lasting

    wait_for(spanned, f"heartbeats for {lasting} s")
    return seen[1:]  # the file's own creation is the first
