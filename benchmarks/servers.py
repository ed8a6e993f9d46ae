"""The servers under test: how each is started, and what the kernel says of it.

Each is as its command starts it, with one worker, on uvloop where that is a choice,
and with a keep-alive that no run outlasts.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
TICK = 1e6 / os.sysconf("SC_CLK_TCK")  # µs in which /proc counts CPU time
PATIENCE = 20.0  # seconds for a start or a stop

GUNICORN = (
    "gunicorn -w 1 -b 127.0.0.1:{port} --no-control-socket --keep-alive 75"
    " --log-level warning -k "
)


@dataclass(frozen=True)
class Peer:
    """A server's command; *quiet* and *logged*: arguments without and with access log.

    What has no file for its access log writes it to stdout, which is a file here.
    """

    command: str
    quiet: str = ""
    logged: str = ""
    lacks: tuple[str, ...] = ()  # works that it has no answer for

    def line(self, app: str, logged: bool) -> str:
        """Return the whole command for *app*, with ``{port}`` and ``{log}``."""
        arguments = self.logged if logged else self.quiet
        return f"{self.command} {arguments}".replace("{app}", app)


PEERS = {
    "uvworker": Peer(
        GUNICORN + "uvworker.Worker apps:{app}", "", "--access-logfile {log}"
    ),
    "uvicorn_worker": Peer(
        GUNICORN + "uvicorn_worker.UvicornWorker apps:{app}",
        "",
        "--access-logfile {log}",
    ),
    "gunicorn asgi": Peer(GUNICORN + "asgi apps:{app}", "", "--access-logfile {log}"),
    "uvicorn": Peer(
        "uvicorn --port {port} --timeout-keep-alive 75 apps:{app}", "--no-access-log"
    ),
    "granian": Peer(
        # Which counts idle connections too, and would take 1024.
        "granian --interface asgi --loop uvloop --backpressure 10000"
        " --port {port} apps:{app}",
        "",
        "--access-log",
    ),
    "hypercorn": Peer(
        "hypercorn -k uvloop -b 127.0.0.1:{port} --keep-alive 75 apps:{app}",
        "",
        "--access-logfile {log}",
    ),
    "bound": Peer("python bound.py {port} {app}", lacks=("access log", "WebSocket")),
}


class Server:
    """One server, started by its construction, by a command with ``{port}``."""

    def __init__(
        self, name: str, command: str, log: Path, directory: Path = HERE
    ) -> None:
        self.name, self.port, self.log = name, _free_port(), log
        words = [word.format(port=self.port, log=log) for word in command.split()]
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

    def wait(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self.log.read_text()[-2000:]
                sys.exit(f"{self.name} does not start:\n{said}")
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

    def _answers(self) -> bool:
        """Whether somebody accepts and, where a worker is forked first, answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                probe.sendall(b"GET /items/1 HTTP/1.1\r\nhost: a\r\n\r\n")
                return bool(probe.recv(1))
        except OSError:
            return False

    def cpu(self) -> float:
        """Return the CPU time of all its processes so far: user and system, in µs."""
        stats = [_read(pid, "stat").rpartition(")")[2].split() for pid in self._pids()]
        return TICK * sum(int(stat[11]) + int(stat[12]) for stat in stats)

    def memory(self) -> tuple[int, int, int]:
        """Return bytes resident: of all its processes, the largest, its unshared."""
        sizes = [_sizes(pid) for pid in self._pids()]
        rss, private = max(sizes)
        return sum(rss for rss, _ in sizes), rss, private

    def _pids(self) -> list[int]:
        """Return its processes; a grandchild is listed after its parent."""
        pids = [self._process.pid]
        for pid in pids:  # grows while it is walked
            pids += [int(child) for child in _read(pid, f"task/{pid}/children").split()]
        return pids


@contextmanager
def running(
    names: Iterable[str], app: str, *, logged: bool = False
) -> Iterator[list[Server]]:
    """Run the servers of these *names*, all at once, for a ``with`` block."""
    servers: list[Server] = []
    with TemporaryDirectory() as directory:
        try:
            for name in names:
                log = Path(directory) / name
                servers.append(Server(name, PEERS[name].line(app, logged), log))
            for server in servers:
                server.wait()
            yield servers
        finally:
            for server in servers:
                server.tell()
            for server in servers:
                server.end()


def _read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def _sizes(pid: int) -> tuple[int, int]:
    """Return a process's resident and private memory, in bytes."""
    kilobytes = dict.fromkeys(("Rss", "Private_Clean", "Private_Dirty"), 0)
    for line in _read(pid, "smaps_rollup").splitlines():
        name, _, size = line.partition(":")
        if name in kilobytes:
            kilobytes[name] = int(size.split()[0])
    return kilobytes.pop("Rss") * 1024, sum(kilobytes.values()) * 1024


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
