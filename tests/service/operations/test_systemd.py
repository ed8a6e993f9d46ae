"""What systemd is told, heard on a socket in its place."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import HELLO, Serve
from tests.service.operations.test_operations import BLOCKS
from tests.tools.apps import LIFE, SAY, SLOW_IMPORT
from tests.tools.service import Service, children_of, wait_for

CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class Systemd:
    """A socket in the place of systemd's; `heard` has each message and its sender."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.heard: list[tuple[int, list[str]]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.setblocking(False)
        self._socket.bind(address.replace("@", "\0"))

    def close(self) -> None:
        self._socket.close()

    def said(self, start: str, sender: int | None = None) -> list[str]:
        """Return the lines so far that begin with *start*, in order."""
        self._listen()
        return [
            line
            for pid, lines in self.heard
            for line in lines
            if line.startswith(start) and sender in (None, pid)
        ]

    def wait(self, start: str, count: int = 1, sender: int | None = None) -> str:
        """Wait until such a line has come *count* times, and return the last."""
        wait_for(
            lambda: len(self.said(start, sender)) >= count,
            f"{count} x {start!r} said to systemd",
        )
        return self.said(start, sender)[-1]

    def _listen(self) -> None:
        try:
            while True:
                data, [(_, _, passed)], *_ = self._socket.recvmsg(9000, 100)
                pid = CREDENTIALS.unpack(passed)[0]
                self.heard.append((pid, data.decode().splitlines()))
        except BlockingIOError:
            pass


@pytest.fixture
def systemd(request: pytest.FixtureRequest) -> Iterator[Systemd]:
    """Listen on a path; on an abstract name if the parameter is "abstract"."""
    abstract = getattr(request, "param", "") == "abstract"
    with tempfile.TemporaryDirectory() as directory:  # short, as the path must be
        systemd = Systemd(("@" if abstract else "") + directory + "/notify")
        yield systemd
        systemd.close()


def started(serve: Serve, systemd: Systemd, source: str, *args: str) -> Service:
    """Start a service as systemd does, with a watchdog of two seconds."""
    env = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "2000000"}
    return serve(source, *args, env=env, wait=0)


def hold(place: str, directory: Path) -> Callable[[], None]:
    """Hold the app at *place*; return what releases it."""
    path = directory / f"hold-{place}"
    path.touch()
    return path.unlink


@pytest.mark.parametrize(
    ("systemd", "more"),
    [("path", ()), ("abstract", ("--preload",))],
    indirect=["systemd"],
)
def test_ready_is_said_once_when_the_first_generation_serves(
    serve: Serve, systemd: Systemd, tmp_path: Path, more: tuple[str, ...]
) -> None:
    """By the arbiter alone, so that a unit needs no NotifyAccess."""
    release = hold("startup", tmp_path)
    service = started(serve, systemd, LIFE, "-w", "2", *more)
    service.wait_said("startup", 2)
    systemd.wait("EXTEND_TIMEOUT_USEC=", 2)
    assert systemd.said("READY") == []
    release()
    systemd.wait("WATCHDOG=1", 3)
    assert len(service.said("startup")) == 2
    assert systemd.said("READY") == ["READY=1"]
    systemd.wait("STATUS=2 of 2 workers serve; 0 requests in flight, 0 connections")
    assert {pid for pid, _ in systemd.heard} == {service.pid}


def test_a_release_that_cannot_be_imported_is_never_ready(
    serve: Serve, systemd: Systemd
) -> None:
    service = started(serve, systemd, "import nothing_of_this_name", "-w", "2")
    assert service.wait_exit() != 0
    assert systemd.said("READY") == []


def test_a_long_import_is_extended_and_not_ready(
    serve: Serve, systemd: Systemd, tmp_path: Path
) -> None:
    release = hold("import", tmp_path)
    service = started(serve, systemd, SLOW_IMPORT)
    service.wait_said("import")
    systemd.wait("EXTEND_TIMEOUT_USEC=", 3)
    assert systemd.said("READY") == []
    release()
    systemd.wait("READY=1")


def test_a_reload_is_told_from_its_begin_to_its_end(
    serve: Serve, systemd: Systemd, tmp_path: Path
) -> None:
    service = started(serve, systemd, LIFE)
    systemd.wait("READY=1")
    for reload in 1, 2:
        release = hold("startup", tmp_path)
        before = time.monotonic_ns() // 1000
        service.kill(signal.SIGHUP)
        systemd.wait("RELOADING=1", reload)
        stamp = systemd.said("MONOTONIC_USEC=")[-1].partition("=")[2]
        assert before <= int(stamp) <= time.monotonic_ns() // 1000
        service.wait_said("startup", 1 + reload)
        assert len(systemd.said("READY=1")) == reload
        release()
        systemd.wait("READY=1", 1 + reload)
    order = [line for line in systemd.said("RE") if line.endswith("=1")]
    assert order == ["READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1"]


def test_a_reload_that_fails_ends_and_the_status_says_so(
    serve: Serve, systemd: Systemd, tmp_path: Path
) -> None:
    # The arbiter waits so long for the old workers before it takes up the next HUP.
    service = started(serve, systemd, HELLO, "--graceful-timeout", "1")
    systemd.wait("READY=1")
    source = (tmp_path / "main.py").read_text()
    (tmp_path / "main.py").write_text("import nothing_of_this_name")
    service.kill(signal.SIGHUP)
    systemd.wait("READY=1", 2)
    systemd.wait("STATUS=The last reload failed, the log says why; 1 of 1 workers")
    (tmp_path / "main.py").write_text(source)
    service.kill(signal.SIGHUP)
    systemd.wait("READY=1", 3)
    systemd.wait("STATUS=1 of 1 workers serve", 2)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGQUIT])
def test_a_stop_is_told_before_the_drain_and_extended(
    serve: Serve, systemd: Systemd, tmp_path: Path, signum: signal.Signals
) -> None:
    release = hold("request", tmp_path)
    service = started(serve, systemd, LIFE)
    systemd.wait("READY=1")
    request = service.begin()
    service.wait_said("request")
    service.kill(signum)
    systemd.wait("STOPPING=1")
    if signum == signal.SIGTERM:
        systemd.wait("EXTEND_TIMEOUT_USEC=", 2 + len(systemd.said("EXTEND")))
        release()
        assert request.getresponse().status == 200
    assert service.wait_exit() == 0
    assert systemd.said("STOPPING") == ["STOPPING=1"]
    assert systemd.said("READY") == ["READY=1"]


def test_the_watchdog_gets_no_sign_while_the_only_loop_is_blocked(
    serve: Serve, systemd: Systemd, tmp_path: Path
) -> None:
    service = started(serve, systemd, BLOCKS, "--timeout", "0")
    systemd.wait("WATCHDOG=1", 3)
    release = hold("loop", tmp_path)
    request = service.begin()

    signs, since = 0, time.monotonic()

    def is_silent() -> bool:
        nonlocal signs, since
        if signs != (now := len(systemd.said("WATCHDOG"))):
            signs, since = now, time.monotonic()
        return time.monotonic() > since + 2

    wait_for(is_silent, "the signs end, of which there are two a second")
    release()
    assert request.getresponse().status == 200
    systemd.wait("WATCHDOG=1", signs + 2)


INHERITED = (
    SAY
    + """
import os, signal, subprocess, sys

NAMES = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
CODE = f"import os; print([n in os.environ for n in {NAMES!r}])"
say([name in os.environ for name in NAMES])
say(subprocess.check_output([sys.executable, "-c", CODE], text=True).strip())
say(signal.getsignal(signal.SIGALRM) is signal.SIG_DFL)

async def app(scope, receive, send):
    assert scope["type"] == "http"
"""
)


def test_an_app_and_what_it_starts_inherit_nothing_of_it(
    serve: Serve, systemd: Systemd
) -> None:
    service = started(serve, systemd, INHERITED)
    systemd.wait("READY=1")
    service.wait_said("[False, False, False]", 2)
    service.wait_said("True")


@pytest.mark.parametrize("reloaded", [False, True])
def test_an_upgrade_hands_the_service_to_the_next_arbiter(
    serve: Serve, systemd: Systemd, reloaded: bool
) -> None:
    service = started(serve, systemd, HELLO)
    systemd.wait("READY=1")
    if reloaded:
        service.kill(signal.SIGHUP)
        systemd.wait("READY=1", 2)
    old, workers = service.pid, service.workers()
    service.kill(signal.SIGUSR2)
    service.ready(2 + reloaded)
    [new] = [pid for pid in children_of(old) if pid not in workers]
    assert systemd.said("READY", new) == []
    service.kill(signal.SIGTERM)
    assert service.wait_exit() == 0
    assert systemd.wait("MAINPID=") == f"MAINPID={new}"
    service.adopt(new)
    systemd.wait("READY=1", sender=new)
    systemd.wait("WATCHDOG=1", 2, sender=new)
    assert systemd.said("STOPPING") == []
    service.kill(signal.SIGTERM)
    systemd.wait("STOPPING=1", sender=new)
    service.wait_gone(new)


def test_an_upgrade_that_is_taken_back_does_not_stop_the_service(
    serve: Serve, systemd: Systemd
) -> None:
    service = started(serve, systemd, HELLO)
    systemd.wait("READY=1")
    workers = service.workers()
    service.kill(signal.SIGUSR2)
    service.ready(2)
    [new] = [pid for pid in children_of(service.pid) if pid not in workers]
    service.kill(signal.SIGTERM, new)
    service.wait_gone(new)
    signs = len(systemd.said("WATCHDOG=1", service.pid))
    systemd.wait("WATCHDOG=1", signs + 2, sender=service.pid)
    assert systemd.said("STOPPING") == systemd.said("MAINPID") == []


def test_a_full_queue_delays_a_message_and_loses_none(
    serve: Serve, systemd: Systemd
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                other.sendto(b"STATUS=Other.", systemd.address)
        started(serve, systemd, HELLO).ready()
    systemd.wait("READY=1")


def test_a_socket_without_a_listener_is_named_and_harms_nothing(serve: Serve) -> None:
    service = serve(env={"NOTIFY_SOCKET": "/nowhere/there"})
    assert service.get().status_code == 200
    service.wait_log(
        "systemd is not notified: NOTIFY_SOCKET: No such file or directory"
    )


def test_without_systemd_no_timer_wakes_the_arbiter(serve: Serve) -> None:
    status = Path(f"/proc/{serve().pid}/status").read_text()
    [caught] = [line for line in status.splitlines() if line.startswith("SigCgt")]
    assert not int(caught.split()[1], 16) >> (signal.SIGALRM - 1) & 1


# The arbiter waits for signals with a deadline. Here the first SIGALRM that interrupts
# this ends behind the deadline, as on a machine that halts for a moment.
LATE_SIGNAL = """
import signal, time

def when_ready(server):
    look, late = signal.getsignal(signal.SIGALRM), []

    def look_late(signum, frame):
        look(signum, frame)
        if not late and frame.f_code.co_name == "wait_for_signals":
            late.append(time.sleep(1.2))

    signal.signal(signal.SIGALRM, look_late)
"""


def test_a_late_look_does_not_keep_a_hung_worker_alive(
    serve: Serve, systemd: Systemd, tmp_path: Path
) -> None:
    env = {"NOTIFY_SOCKET": systemd.address}
    limits = ("--timeout", "3")
    service = serve(BLOCKS, "-w", "2", *limits, conf=LATE_SIGNAL, env=env, wait=2)
    systemd.wait("STATUS=2 of 2 workers serve")
    hold("loop", tmp_path)
    with contextlib.closing(service.begin()):
        service.wait_log("WORKER TIMEOUT")
        service.ready(3)
