"""INT and QUIT: what is in flight is cancelled, and the worker is gone in a moment."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.tools.apps import HOOKS, LIFE, SAY, SLOW_IMPORT
from tests.tools.service import wait_for

# A graceful timeout that no test would wait for.
PATIENT = ("--graceful-timeout", "60")
# gunicorn grants two; the rest is for a machine that runs all tests at once.
QUICK = 6.0  # seconds

both_signals = pytest.mark.parametrize(
    "signum", [signal.SIGINT, signal.SIGQUIT], ids=["INT", "QUIT"]
)


@both_signals
def test_an_interrupted_service_cancels_and_leaves(
    serve: Serve, tmp_path: Path, signum: signal.Signals
) -> None:
    (tmp_path / "hold-request").touch()
    service = serve(LIFE, *PATIENT, "-w", "2", wait=2, conf=HOOKS)
    workers = set(service.workers())
    service.begin()
    service.wait_said("request")
    began = time.monotonic()
    assert service.stop(signum) == 0
    assert time.monotonic() - began < QUICK
    for what in "worker_int", "shutdown", "closed", "worker_exit", "atexit":
        assert sorted(service.said(what)) == sorted(workers)
    assert "answered" not in service.out
    assert "was sent" not in service.log


@both_signals
def test_an_interrupted_worker_cancels_leaves_and_is_replaced(
    serve: Serve, tmp_path: Path, signum: signal.Signals
) -> None:
    (tmp_path / "hold-request").touch()
    service = serve(LIFE, *PATIENT, conf=HOOKS)
    [worker] = service.workers()
    service.begin()
    service.wait_said("request")
    began = time.monotonic()
    service.kill(signum, worker)
    service.wait_gone(worker)
    assert time.monotonic() - began < QUICK
    for what in "worker_int", "closed", "worker_exit", "atexit":
        assert service.said(what) == [worker]
    assert "exited with" not in service.log
    service.ready(2)
    assert service.workers() != [worker]


def test_worker_int_runs_once_however_often_a_worker_is_interrupted(
    serve: Serve, tmp_path: Path
) -> None:
    """A terminal's Ctrl-C interrupts the whole group, and the arbiter once more."""
    (tmp_path / "hold-shutdown").touch()
    service = serve(LIFE, *PATIENT, conf=HOOKS)
    [worker] = service.workers()
    service.kill(signal.SIGINT, worker)
    service.wait_said("shutdown")
    service.kill(signal.SIGINT, worker)
    service.kill(signal.SIGQUIT, worker)
    service.wait_gone(worker)
    (tmp_path / "hold-shutdown").unlink()
    assert service.said("worker_int") == service.said("worker_exit") == [worker]


def test_a_drain_is_cut_short_by_an_interrupt(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "hold-request").touch()
    service = serve(LIFE, *PATIENT, conf=HOOKS)
    [worker] = service.workers()
    service.begin()
    service.wait_said("request")
    service.kill(signal.SIGTERM)
    wait_for(service.refuses, "the worker drains")
    service.kill(signal.SIGQUIT, worker)
    service.wait_gone(worker)
    assert service.said("worker_int") == service.said("closed") == [worker]


@pytest.mark.parametrize("place", ["import", "startup"])
def test_a_boot_is_interrupted(serve: Serve, tmp_path: Path, place: str) -> None:
    (tmp_path / f"hold-{place}").touch()
    service = serve(SLOW_IMPORT, *PATIENT, conf=HOOKS, wait=0)
    [worker] = service.wait_said(place)
    assert service.stop(signal.SIGINT) == 0
    assert service.said("worker_int") == service.said("worker_exit") == [worker]
    assert "Traceback" not in service.log


HELD = (
    SAY
    + """
import anyio, asyncio, threading

def hold():
    say("held")
    threading.Event().wait()

async def app(scope, receive, send):
    if scope["path"] == "/asyncio":
        await asyncio.to_thread(hold)
    await anyio.to_thread.run_sync(hold)
"""
)


@both_signals
@pytest.mark.parametrize("path", ["/asyncio", "/anyio"])
@pytest.mark.parametrize("told", ["arbiter", "worker"])
def test_a_thread_that_never_ends_holds_nobody(
    serve: Serve, signum: signal.Signals, path: str, told: str
) -> None:
    """As a synchronous endpoint of FastAPI that hangs."""
    service = serve(HELD, *PATIENT, conf=HOOKS)
    [worker] = service.workers()
    service.begin(path)
    service.wait_said("held")
    began = time.monotonic()
    service.kill(signum, worker if told == "worker" else service.pid)
    service.wait_gone(worker)
    assert time.monotonic() - began < QUICK
    assert service.said("worker_int") == service.said("worker_exit") == [worker]
    assert "in hold" in service.log, "the log says what held it"
    if told == "arbiter":
        assert service.wait_exit() == 0
