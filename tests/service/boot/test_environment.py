"""A machine that lacks something: a clear message, or survival."""

from __future__ import annotations

import os
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.tools.service import Service, gunicorn_lacks, open_files, wait_for


def assert_refused(service: Service, pattern: str) -> None:
    """Hold that the arbiter says why in one line, forks nobody and ends with 1."""
    assert service.wait_exit() == 1
    service.wait_log(rf"(?m)^Error: {pattern}")
    assert "Booting worker" not in service.log
    assert "Traceback" not in service.log


def without(package: str) -> str:
    """Return a line of ``gunicorn.conf.py`` that makes *package* not installed."""
    return f"import sys; sys.modules[{package!r}] = None\n"


@gunicorn_lacks("asgi_loop")
def test_an_event_loop_that_is_not_installed_is_named(serve: Serve) -> None:
    conf = without("uvloop") + "asgi_loop = 'uvloop'"
    service = serve(conf=conf, wait=0)
    assert_refused(service, r"asgi_loop 'uvloop' needs the package uvloop")


@pytest.mark.parametrize(
    ("worker", "package"),
    [("uvworker.Worker", "httptools"), ("uvworker.H11Worker", "h11")],
)
def test_a_protocol_that_is_not_installed_is_named(
    serve: Serve, worker: str, package: str
) -> None:
    service = serve(conf=without(package), worker=worker, wait=0)
    assert_refused(service, rf"http_parser '\w+' needs the package {package}")


def test_a_websocket_protocol_that_is_not_installed_is_named(serve: Serve) -> None:
    choice = "import uvworker; worker_class = uvworker.Worker.configured(ws='wsproto')"
    service = serve(conf=without("wsproto") + choice, worker="", wait=0)
    assert_refused(service, r"ws 'wsproto' needs the package wsproto")


OWN_LINES = """
import uvworker
from gunicorn.glogging import Logger
class logger_class(Logger): ...
worker_class = uvworker.Worker.configured(access_log_json=True)
"""


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        ("worker_class = 'uvworker.Worker'; access_log_format = '%'", "access_log_for"),
        (OWN_LINES, "access_log_json: logger_class logger_class writes its own"),
    ],
    ids=["format", "json"],
)
def test_an_access_log_that_no_worker_can_write_is_named(
    serve: Serve, conf: str, reason: str
) -> None:
    service = serve(conf=f"accesslog = '-'\n{conf}", worker="", wait=0)
    assert_refused(service, reason)


def test_a_listener_that_is_taken_is_named(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        # gunicorn tries again five times, a second apart.
        service = serve(bind=bind, wait=0)
        service.wait_log(r"[Cc]onnection in use: \('127.0.0.1', ")
        assert service.wait_exit() == 1
    assert "Booting worker" not in service.log


@pytest.mark.parametrize("option", ["--error-logfile", "--access-logfile"])
def test_a_log_that_cannot_be_written_is_named(
    serve: Serve, tmp_path: Path, option: str
) -> None:
    log = tmp_path / "missing" / "log"
    assert_refused(serve("", option, str(log), wait=0), f".*{log}.* isn't writable")


@pytest.mark.parametrize("directory", ["/proc/missing", "/proc/sys"])
def test_a_heartbeat_directory_that_cannot_be_written_is_named(
    serve: Serve, directory: str
) -> None:
    """In /proc not even root can make a file."""
    service = serve("", "--worker-tmp-dir", directory, wait=0)
    assert_refused(service, rf"worker_tmp_dir '{directory}' cannot hold")


# File descriptors

DESCRIPTORS = 64
CLIENTS = 200
TICK = os.sysconf("SC_CLK_TCK")  # of /proc/PID/stat, per second
WINDOW = 2.0  # seconds in which the exhausted worker's CPU time is taken
BUSY = 0.5  # seconds of it, where a loop that spins takes nearly all of the window


@pytest.mark.parametrize(
    "worker", ["uvworker.Worker", "uvworker.H11Worker"], ids=["uvloop", "asyncio"]
)
def test_a_worker_without_descriptors_neither_dies_nor_spins(
    serve: Serve, worker: str
) -> None:
    limit = "prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"
    service = serve(under=limit, worker=worker)
    pid = service.workers()[0]
    with ExitStack() as clients:
        for _ in range(CLIENTS):
            clients.enter_context(service.connect())
        wait_for(lambda: len(open_files(pid)) >= DESCRIPTORS - 2, "no descriptor left")
        assert cpu_seconds_within(pid, WINDOW) < BUSY
    assert service.get().text == "Hello, world!"
    assert service.workers() == [pid]
    service.wait_log("Cannot accept: Too many open files; raise the limit")
    assert "Traceback" not in service.log
    assert service.stop() == 0


def cpu_seconds_within(pid: int, window: float) -> float:
    """Return how much CPU time the process takes in *window* seconds."""
    before = cpu_seconds(pid)
    end = time.monotonic() + window
    wait_for(lambda: time.monotonic() >= end, "the end of the window")
    return cpu_seconds(pid) - before


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK  # utime, stime
