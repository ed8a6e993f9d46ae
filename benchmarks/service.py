"""A server with several workers, whose app gets good and broken releases.

Each peer runs with the options that its documentation has for the purpose (`COMMANDS`).
A reload is ``HUP`` everywhere. The workers write what they do to a file.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory

from servers import PATIENCE, Server

GUNICORN = (
    "gunicorn -w {workers} -b 127.0.0.1:{{port}} --no-control-socket"
    " --timeout 10 --graceful-timeout 10 -k "
)
COMMANDS = {
    "uvworker": GUNICORN + "uvworker.Worker main:app",
    "uvicorn-worker": GUNICORN + "uvicorn_worker.UvicornWorker main:app",
    "gunicorn asgi": GUNICORN + "asgi main:app",
    # A start that takes longer than the health check allows aborts a reload; the
    # default of 5 s would be close to `START`.
    "uvicorn": "uvicorn --workers {workers} --port {{port}} --no-access-log"
    " --timeout-graceful-shutdown 10 --timeout-worker-healthcheck 20 main:app",
    # A reload stops each old worker after a fixed time, which must exceed the start,
    # and for which a broken release is not noticed. Without the second option any death
    # of a worker ends the server; with it, the second within 5.5 s.
    "granian": "granian --interface asgi --loop uvloop --workers {workers}"
    " --port {{port}} --respawn-interval 8 --respawn-failed-workers"
    " --workers-kill-timeout 10 main:app",
    # `--reload` takes the same way as HUP: it stops the workers, and starts others.
    "hypercorn": "hypercorn -k uvloop -w {workers} -b 127.0.0.1:{{port}}"
    " --graceful-timeout 10 main:app",
}

START = 4.0  # seconds that the slow release takes
SOFTLY = 5.0  # seconds for a server to tidy up

# The release that it is stands in a file. It writes down how far it comes.
APP = f"""
import os, time
from pathlib import Path

RELEASE = Path("release").read_text()

def note(event):
    with open("events", "a") as events:
        events.write(f"{{RELEASE}} {{event}} {{os.getpid()}}\\n")

def block_the_loop():
    note("blocks")
    time.sleep(3600)

note("begins")
if RELEASE == "slow":
    time.sleep({START})
if RELEASE == "import":
    raise RuntimeError("this release cannot be imported")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if RELEASE == "lifespan":
            return await send({{"type": "lifespan.startup.failed"}})
        note("serves")
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        return await send({{"type": "lifespan.shutdown.complete"}})
    if scope["path"] == "/block":
        block_the_loop()
    stays = scope["path"] == "/stay"
    body = str(os.getpid()).encode()
    length = [] if stays else [(b"content-length", b"%d" % len(body))]
    await send({{"type": "http.response.start", "status": 200, "headers": length}})
    await send({{"type": "http.response.body", "body": body, "more_body": stays}})
    while stays and (await receive())["type"] != "http.disconnect":
        pass
"""


class Service(Server):
    """A server with *workers* workers, in a directory of its own with its app."""

    def __init__(self, name: str, workers: int, directory: Path) -> None:
        self.workers, self.directory = workers, directory
        (directory / "main.py").write_text(APP)
        (directory / "events").touch()
        self.release("first")
        command = COMMANDS[name].format(workers=workers)
        super().__init__(name, command, directory / "log", directory)

    def release(self, name: str) -> None:
        """Put another release where the workers that start from now on find it."""
        (self.directory / "release").write_text(name)

    def reload(self, release: str) -> None:
        self.release(release)
        os.kill(self.parent, signal.SIGHUP)

    def who(self, event: str) -> list[int]:
        """Return the pids of those who noted *event*, such as ``first serves``."""
        lines = (self.directory / "events").read_text().splitlines()
        return [int(line.split()[2]) for line in lines if line.startswith(event)]

    def living(self) -> set[int]:
        """Return those of its workers that are no zombies."""
        return {pid for pid in self.who("") if _lives(pid, self.parent)}

    def serves(self, release: str) -> bool:
        """Whether all workers are of this release, and no other one is left."""
        new = set(self.who(f"{release} serves"))
        return self.living() <= new and len(self.living() & new) == self.workers

    def client(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def refuses(self) -> bool:
        """Whether nobody listens any more."""
        try:
            socket.create_connection(("127.0.0.1", self.port), PATIENCE).close()
        except OSError:
            return True
        return False

    def sweep(self) -> None:
        """End all its processes; last that which multiprocessing has to tidy up."""
        group = {-self.parent}
        self._end(signal.SIGTERM, group)
        self._process.kill()
        self._end(signal.SIGKILL, self.living())
        self._end(signal.SIGKILL, group)

    def _end(self, signum: int, targets: set[int]) -> None:
        for target in targets:
            with suppress(ProcessLookupError):
                os.kill(target, signum)
        wait_for(self._gone, SOFTLY)

    def _gone(self) -> bool:
        self._process.poll()
        try:
            os.killpg(self.parent, 0)
        except ProcessLookupError:
            return True
        return False


@contextmanager
def serving(name: str, workers: int = 2) -> Iterator[Service]:
    """Run one server for a ``with`` block, from when all workers serve."""
    with TemporaryDirectory() as directory:
        service = Service(name, workers, Path(directory))
        try:
            service.wait()
            if not wait_for(lambda: service.serves("first"), PATIENCE):
                sys.exit(f"{name} has too few workers:\n{service.log.read_text()}")
            yield service
        finally:
            service.sweep()


def wait_for(fact: Callable[[], object], patience: float) -> bool:
    """Return whether *fact* becomes true within *patience* seconds."""
    deadline = time.monotonic() + patience
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _lives(pid: int, group: int) -> bool:
    """Whether this process of this group runs; another may have got its pid."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    state, _parent, its_group = stat.rpartition(")")[2].split()[:3]
    return state != "Z" and int(its_group) == group
