"""TERM: what is in flight finishes, the app shuts down, nothing looks like an error."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.conftest import HELLO, Serve
from tests.tools.apps import HOOKS, LIFE, SAY, SLOW_IMPORT
from tests.tools.service import Service, wait_for


def assert_left_cleanly(service: Service, worker: int) -> None:
    """Everything at the end of a worker's life happened, once, and in order."""
    ending = ["shutdown", "closed", "worker_exit", "atexit"]
    lines = [line.split() for line in service.out.splitlines()]
    assert [what for pid, what in lines if pid == str(worker)][-4:] == ending
    for word in (
        "WARNING",
        "ERROR",
        "CRITICAL",
        "Traceback",
        "exited with",
        "was sent",
    ):
        assert word not in service.log


def test_a_stop_of_an_idle_service_is_clean(serve: Serve) -> None:
    service = serve(LIFE, "-w", "2", wait=2, conf=HOOKS)
    workers = service.workers()
    service.get()
    assert service.stop() == 0
    for worker in workers:
        assert_left_cleanly(service, worker)


def test_a_stop_lets_requests_finish(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "hold-request").touch()
    service = serve(LIFE, conf=HOOKS)
    [worker] = service.workers()
    request = service.begin()
    service.wait_said("request")

    service.kill(signal.SIGTERM)
    service.wait_log("Handling signal: term")
    wait_for(service.refuses, "the listener closed")
    (tmp_path / "hold-request").unlink()

    assert request.getresponse().read() == str(worker).encode()
    assert service.wait_exit() == 0
    assert_left_cleanly(service, worker)


def test_term_to_one_worker_lets_requests_finish_while_another_replaces_it(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "hold-request").touch()
    service = serve(LIFE, conf=HOOKS)
    [worker] = service.workers()
    request = service.begin()
    service.wait_said("request")

    service.kill(signal.SIGTERM, worker)
    (tmp_path / "hold-request").unlink()
    assert request.getresponse().read() == str(worker).encode()
    service.ready(2)
    service.wait_gone(worker)
    assert_left_cleanly(service, worker)
    assert service.get().text == str(service.workers()[0])


def test_requests_out_of_time_are_cut_and_the_app_still_shuts_down(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "hold-request").touch()
    service = serve(LIFE, "--graceful-timeout", "3", conf=HOOKS)
    [worker] = service.workers()
    request = service.begin()
    service.wait_said("request")

    assert service.stop() == 0
    assert request.getresponse().status == 503
    assert service.said("closed") == service.said("worker_exit") == [worker]
    assert service.said("atexit") == [worker]
    assert "Cancelling 1 request(s): they did not end in time." in service.log
    for word in "ERROR", "Traceback", "was sent", "exited with":
        assert word not in service.log


def test_a_shutdown_of_the_app_that_never_ends_is_left_behind(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "hold-shutdown").touch()
    service = serve(LIFE, "--graceful-timeout", "3", conf=HOOKS)
    [worker] = service.workers()
    assert service.stop() == 0
    assert service.said("worker_exit") == service.said("atexit") == [worker]
    assert "Leaving: lifespan shutdown did not end in time." in service.log
    assert "was sent" not in service.log


STUBBORN = (
    SAY
    + """
import asyncio, threading

async def app(scope, receive, send):
    assert scope["type"] == "http"
    say("request")
    if scope["path"] == "/thread":
        await asyncio.to_thread(threading.Event().wait)
    while True:
        try:
            await asyncio.Event().wait()
        except BaseException:
            say("no")
"""
)


@pytest.mark.parametrize("path", ["/task", "/thread"])
def test_a_request_that_cannot_be_cancelled_is_left_behind(
    serve: Serve, path: str
) -> None:
    service = serve(STUBBORN, "--graceful-timeout", "6", conf=HOOKS)
    [worker] = service.workers()
    service.begin(path)
    service.wait_said("request")
    assert service.stop() == 0
    assert service.said("worker_exit") == [worker]
    assert "SIGKILL" not in service.log


@pytest.mark.parametrize("place", ["import", "startup"])
def test_a_stop_does_not_wait_for_a_boot(
    serve: Serve, tmp_path: Path, place: str
) -> None:
    (tmp_path / f"hold-{place}").touch()
    # A graceful timeout that the test would not wait for.
    service = serve(SLOW_IMPORT, "--graceful-timeout", "60", conf=HOOKS, wait=0)
    [worker] = service.wait_said(place)
    assert service.stop() == 0
    assert service.said("worker_exit") == [worker]
    for word in ("WARNING", "ERROR", "CRITICAL", "Traceback"):
        assert word not in service.log


@pytest.mark.parametrize("place", ["import", "startup"])
def test_term_to_a_worker_that_boots_is_obeyed_at_once(
    serve: Serve, tmp_path: Path, place: str
) -> None:
    (tmp_path / f"hold-{place}").touch()
    service = serve(SLOW_IMPORT, "--graceful-timeout", "60", conf=HOOKS, wait=0)
    [worker] = service.wait_said(place)
    service.kill(signal.SIGTERM, worker)
    service.wait_gone(worker)
    (tmp_path / f"hold-{place}").unlink()
    service.ready()
    assert service.workers() != [worker]
    assert service.said("worker_exit") == [worker]


def test_a_second_term_changes_nothing(serve: Serve, tmp_path: Path) -> None:
    for place in "request", "shutdown":
        (tmp_path / f"hold-{place}").touch()
    service = serve(LIFE, conf=HOOKS)
    [worker] = service.workers()
    request = service.begin()
    service.wait_said("request")
    for place in "request", "shutdown":
        service.kill(signal.SIGTERM, worker)
        service.wait_said(place)
        service.kill(signal.SIGTERM, worker)
        (tmp_path / f"hold-{place}").unlink()
    assert request.getresponse().read() == str(worker).encode()
    service.wait_gone(worker)
    assert_left_cleanly(service, worker)


HELD_EXIT = (
    HOOKS
    + """
import time
from pathlib import Path

def worker_exit(server, worker):
    say("worker_exit")
    while Path("hold-exit").exists():
        time.sleep(0.02)
    say("left")
"""
)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_to_a_boot_that_ends_changes_nothing(
    serve: Serve, tmp_path: Path, signum: signal.Signals
) -> None:
    """The signal goes to the whole group, and from the arbiter to each worker again."""
    for place in "import", "exit":
        (tmp_path / f"hold-{place}").touch()
    service = serve(SLOW_IMPORT, "--timeout", "60", conf=HELD_EXIT, wait=0)
    [worker] = service.wait_said("import")
    service.kill(signum, worker)
    service.wait_said("worker_exit")
    service.kill(signum, worker)
    for place in "exit", "import":
        (tmp_path / f"hold-{place}").unlink()
    service.ready()
    assert service.said("left") == [worker]
    assert service.said("worker_int") == [worker] * (signum == signal.SIGINT)
    assert "Traceback" not in service.log


def test_a_sibling_that_has_left_does_not_hold_up_a_stop(serve: Serve) -> None:
    """It ignores TERM by then; its death must not look like that of a new worker."""
    slow_exit = "import atexit, time; atexit.register(time.sleep, 1)"
    service = serve(slow_exit + HELLO, "-w", "2", wait=2)
    service.kill(signal.SIGINT, service.workers()[0])
    service.wait_log("Worker exiting")
    assert service.stop() == 0
    assert "serves on instead" not in service.log


TOLD_AT_FORK = """
import os, pathlib, signal

def tell():
    told = pathlib.Path("told")
    if not told.exists():
        told.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGTERM)

os.register_at_fork(after_in_child=tell)
"""


def test_term_in_the_moment_of_the_fork_is_heard(serve: Serve, tmp_path: Path) -> None:
    """The arbiter's handlers, which the fork inherits, would swallow it."""
    service = serve(conf=TOLD_AT_FORK)
    told = int((tmp_path / "told").read_text())
    service.wait_gone(told)
    assert told not in service.workers()
    assert service.get().status_code == 200
