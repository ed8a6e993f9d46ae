"""A loop that is blocked for less than `timeout`: the log says where and how long."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.tools.service import wait_for

BLOCKS = """
import pathlib, threading, time

def culprit():
    while pathlib.Path("hold-loop").exists():
        time.sleep(0.02)

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/block":
        culprit()
    threads = [thread.name for thread in threading.enumerate()]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": ",".join(threads).encode()})
"""

STALLED = (
    r"The event loop has not turned for [\d.]+ s, in GET '/block', in task \S+\. "
    "It is here:"
)


def test_a_blocked_loop_is_named_while_it_is_blocked(
    serve: Serve, tmp_path: Path
) -> None:
    hold = tmp_path / "hold-loop"
    hold.touch()
    service = serve(BLOCKS, "--timeout", "0")
    request = service.begin("/block")
    service.wait_log(STALLED)
    service.wait_log(r"in culprit\n")
    hold.unlink()
    assert request.getresponse().status == 200
    service.wait_log(r"The event loop turns again after [\d.]+ s\.")


BY_OTHERS = """
import asyncio, pathlib, time

async def culprit():
    while pathlib.Path("hold-loop").exists():
        time.sleep(0.02)

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/child":
        await asyncio.ensure_future(inner(scope))
    if scope["path"] == "/background":
        asyncio.ensure_future(culprit())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"Hello, world!"})

async def inner(scope):
    await culprit()
"""


@pytest.mark.parametrize(
    ("path", "worker", "said"),
    [
        ("/child", "uvworker.Worker", "in GET '/child', in task"),
        ("/child", "uvworker.H11Worker", "in GET '/child', in task"),
        ("/background", "uvworker.Worker", "in task"),
    ],
)
def test_what_blocks_the_loop_is_named_whoever_started_it(
    serve: Serve, tmp_path: Path, path: str, worker: str, said: str
) -> None:
    hold = tmp_path / "hold-loop"
    hold.touch()
    service = serve(BY_OTHERS, "--timeout", "0", worker=worker)
    request = service.begin(path)
    service.wait_log(rf"has not turned for [\d.]+ s, {said} \S+\. It is here:")
    service.wait_log(r"in culprit\n")
    hold.unlink()
    assert request.getresponse().status == 200
    service.wait_log(r"The event loop turns again after [\d.]+ s\.")


def lasts(seconds: float) -> None:
    """Wait until something that was begun has lasted for *seconds*."""
    end = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() >= end, f"{seconds} s have passed")


def test_a_loop_that_stalls_again_and_again_is_reported_once(
    serve: Serve, tmp_path: Path
) -> None:
    hold = tmp_path / "hold-loop"
    service = serve(BLOCKS, env={"UVWORKER_STALL_WARNING": "0.2"})
    for _ in range(3):
        hold.touch()
        request = service.begin("/block")
        service.wait_log(STALLED)
        lasts(1)
        hold.unlink()
        assert request.getresponse().status == 200
    assert len(service.wait_log(STALLED)) == 1


def test_a_pause_of_the_process_is_no_stall(serve: Serve) -> None:
    service = serve(BLOCKS, "--timeout", "0", env={"UVWORKER_STALL_WARNING": "0.2"})
    [worker] = service.workers()
    for _ in range(5):
        service.kill(signal.SIGSTOP, worker)
        lasts(0.5)
        service.kill(signal.SIGCONT, worker)
        assert service.get().status_code == 200
    assert "has not turned" not in service.log


def test_without_it_there_is_no_thread(serve: Serve) -> None:
    service = serve(BLOCKS, env={"UVWORKER_STALL_WARNING": "0"})
    assert service.get().text == "MainThread"
