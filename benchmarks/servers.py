"""The servers under test: how each is started, and its CPU time and memory.

Each runs as its command starts it, with one worker unless told otherwise, on uvloop
where that is a choice, and with a keep-alive longer than a run. Every wait has a
deadline; what a server does wrong is a `Fault`.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).parent
TICK = 1e6 / os.sysconf("SC_CLK_TCK")  # µs in which /proc counts CPU time
PATIENCE = 60.0  # seconds for a start or a stop
ANSWER = 10.0  # seconds for an answer
ROUSED = 8  # requests that keep a worker busy, so that the others get some

GUNICORN = (
    "gunicorn -w {workers} -b 127.0.0.1:{port} --no-control-socket --keep-alive 600"
    " --log-level warning -k "
)
# What a server is asked for beside the app; "" is nothing, without an access log.
LOG, HTTP2, PRELOAD = "access log", "HTTP/2", "preload"


class Fault(Exception):  # noqa: N818  a server's, not one of this program
    """A server does not start, or answers wrongly or not at all."""


@dataclass(frozen=True)
class Peer:
    """A server's command, and the arguments for what is asked for beside the app.

    A server without a file for its access log writes to stdout, which is a file here.
    """

    command: str
    arguments: dict[str, str] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()  # works that it cannot do

    def can(self, wanted: str) -> bool:
        return not wanted or wanted in self.arguments

    def line(self, app: str, wanted: str) -> str:
        """Return the whole command for *app*, with ``{port}`` and the like."""
        arguments = self.arguments.get(wanted, "")
        return f"{self.command} {arguments}".replace("{app}", app)


# The works that a protocol with fixed answers cannot do.
WITHOUT = ("FastAPI, def", "file", "WebSocket", "WebSocket, 10 kB")

GUNICORN_BOTH = {LOG: "--access-logfile {log}", PRELOAD: "--preload"}
GUNICORN_HTTP2 = {HTTP2: "--http-protocols h2,h1 --http2-cleartext prior-knowledge"}

PEERS = {
    "uvworker": Peer(
        GUNICORN + "uvworker.Worker apps:{app}", GUNICORN_BOTH | GUNICORN_HTTP2
    ),
    "uvicorn_worker": Peer(
        GUNICORN + "uvicorn_worker.UvicornWorker apps:{app}", GUNICORN_BOTH
    ),
    "gunicorn asgi": Peer(GUNICORN + "asgi apps:{app}", GUNICORN_BOTH | GUNICORN_HTTP2),
    "uvicorn": Peer(
        "uvicorn --workers {workers} --port {port} --timeout-keep-alive 600 apps:{app}",
        {
            "": "--no-access-log",
            LOG: "",
            HTTP2: "--no-access-log --http zttp --http2",
        },
    ),
    "granian": Peer(
        # Counts idle connections too; the default is 1024.
        "granian --interface asgi --loop uvloop --backpressure 20000"
        " --workers {workers} --port {port} apps:{app}",
        {LOG: "--access-log", HTTP2: ""},
    ),
    "hypercorn": Peer(
        "hypercorn -k uvloop -w {workers} -b 127.0.0.1:{port} --keep-alive 600"
        " apps:{app}",
        {LOG: "--access-logfile {log}", HTTP2: ""},
    ),
    "bound": Peer("python bound.py {port} {app}", lacks=WITHOUT),
}


class Server:
    """One server, started by its construction, by a command with ``{port}``."""

    def __init__(
        self,
        name: str,
        command: str,
        log: Path,
        directory: Path = HERE,
        workers: int = 1,
    ) -> None:
        self.name, self.port, self.log, self._workers = name, _free_port(), log, workers
        self._seen: set[bytes] = set()  # pids of workers
        values = {"port": self.port, "log": log, "workers": workers}
        words = [word.format(**values) for word in command.split()]
        words[0] = str(Path(sys.executable).with_name(words[0]))
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                words,
                cwd=directory,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},  # as installed
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

        self.parent = self._process.pid

    def wait(self) -> None:
        """Wait until it answers, with all its workers."""
        deadline = time.monotonic() + PATIENCE
        while not self._serves():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self.log.read_text()[-2000:]
                raise Fault(f"does not start:\n{said}")
            time.sleep(0.05)

    def tell(self) -> None:
        """Tell it to stop."""
        self._process.terminate()

    def end(self) -> None:
        """Wait for its end, and help after a while."""
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _serves(self) -> bool:
        """Whether somebody accepts and, where workers are forked first, all answer."""
        try:
            if self._workers == 1:
                return bool(self._ask("/items/1"))
            self._seen |= self.rouse()
            return len(self._seen) >= self._workers
        except OSError:
            return False

    def _ask(self, path: str) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), ANSWER) as probe:
            probe.sendall(f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
            return probe.recv(1)

    def rouse(self) -> set[bytes]:
        """Return the pids of the workers that answer some requests for work at once."""
        request = b"GET /burn HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        with ExitStack() as stack:
            probes = [
                stack.enter_context(
                    socket.create_connection(("127.0.0.1", self.port), ANSWER)
                )
                for _ in range(ROUSED)
            ]
            for probe in probes:
                probe.sendall(request)
            answers = [probe.makefile("rb").read() for probe in probes]
        return {answer.rpartition(b"\r\n\r\n")[2] for answer in answers}

    def cpu(self) -> float:
        """Return the CPU time of all its processes so far: user and system, in µs."""
        stats = [_read(pid, "stat").rpartition(")")[2].split() for pid in self._pids()]
        return TICK * sum(int(stat[11]) + int(stat[12]) for stat in stats)

    def memory(self) -> tuple[int, int, int]:
        """Return bytes resident: of all its processes, the largest, its unshared."""
        sizes = [_sizes(pid) for pid in self._pids()]
        largest = max(sizes, key=lambda size: size["Rss"])
        private = largest["Private_Clean"] + largest["Private_Dirty"]
        return sum(size["Rss"] for size in sizes), largest["Rss"], private

    def footprint(self) -> int:
        """Return the bytes that all its processes take; shared ones count once."""
        return sum(_sizes(pid)["Pss"] for pid in self._pids())

    def _pids(self) -> list[int]:
        """Return its processes; a grandchild is listed after its parent."""
        pids = [self._process.pid]
        for pid in pids:  # grows while it is walked
            pids += [int(child) for child in _read(pid, f"task/{pid}/children").split()]
        return pids


@contextmanager
def running(
    run: Any, names: Iterable[str], app: str, wanted: str = "", *, workers: int = 1
) -> Iterator[list[Server]]:
    """Run the servers of these *names*, all at once, for a ``with`` block.

    Those that do not start are noted in the *run*, a `stage.Run`, and left out. With
    several *workers*, the app has to answer ``/burn`` by its pid.
    """
    servers: list[Server] = []
    with TemporaryDirectory() as directory:
        try:
            for name in names:
                log, line = Path(directory) / name, PEERS[name].line(app, wanted)
                servers.append(Server(name, line, log, workers=workers))
            started = []
            for server in servers:
                with run.attempt(f"{server.name}, {app}"):
                    server.wait()
                    started.append(server)
            yield started
        finally:
            for server in servers:
                server.tell()
            for server in servers:
                server.end()


def _read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def _sizes(pid: int) -> dict[str, int]:
    """Return the sums of a process's memory, in bytes."""
    lines = _read(pid, "smaps_rollup").splitlines()[1:]
    pairs = (line.split(":") for line in lines)
    return {name: int(size.split()[0]) * 1024 for name, size in pairs}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
