"""Stacks of any worker, whatever it does, from whichever worker is asked."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.service.operations.conftest import Operate, Operated
from tests.tools.apps import SAY, SLOW_IMPORT
from tests.tools.service import PATIENCE, wait_for

# Blocks its loop, or forks a child that stays, for as long as a file is there.
BUSY = (
    SAY
    + """
import pathlib, time

def culprit():
    say("blocked")
    while pathlib.Path("hold-loop").exists():
        time.sleep(0.02)

def stay():
    while pathlib.Path("hold-child").exists():
        time.sleep(0.02)
    os._exit(0)

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/fork" and not os.fork():
        stay()
    if scope["path"] == "/block":
        culprit()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""
)


def id_of(operated: Operated, pid: int) -> int:
    workers = operated.ask("/status.json").json()["workers"]
    [found] = [worker["id"] for worker in workers if worker["pid"] == pid]
    return int(found)


def stacks_of(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "uvworker", "stacks", *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=PATIENCE
    )


def test_a_blocked_worker_shows_the_line_whoever_is_asked(
    operate: Operate, tmp_path: Path
) -> None:
    (tmp_path / "hold-loop").touch()
    operated = operate(BUSY, "-w", "2", wait=2)
    operated.service.begin("/block")
    [blocked] = operated.service.wait_said("blocked")
    worker = id_of(operated, blocked)
    for _ in range(10):  # whichever worker accepts
        answer = operated.ask(f"/stacks/{worker}")
        assert answer.status_code == 200
        assert answer.text.startswith(f"Worker {worker} (pid {blocked}, serving")
        assert "in culprit\n" in answer.text
    address = operated.url.removeprefix("http://")
    for arguments in (str(worker), address), (address,):
        printed = stacks_of(*arguments)
        assert printed.returncode == 0
        assert "in culprit\n" in printed.stdout
    assert all(f"Worker {n} (pid " in printed.stdout for n in (0, 1))
    (tmp_path / "hold-loop").unlink()


def test_a_worker_that_cannot_answer_is_named(operate: Operate) -> None:
    operated = operate(BUSY, "-w", "2", wait=2)
    stopped = operated.service.workers()[0]
    worker = id_of(operated, stopped)
    operated.service.kill(signal.SIGSTOP, stopped)
    try:
        answer = operated.ask(f"/stacks/{worker}")
        assert answer.status_code == 503
        said = f"Worker {worker} (pid {stopped}, serving): no answer within "
        assert answer.text.startswith(said)
        printed = stacks_of(str(worker), operated.url.removeprefix("http://"))
        assert (printed.returncode, printed.stdout) == (1, "")
        assert said in printed.stderr
    finally:
        operated.service.kill(signal.SIGCONT, stopped)


HELD = """
import ctypes, os

empty, _ = os.pipe()

def culprit():
    ctypes.PyDLL(None).read(empty, ctypes.create_string_buffer(1), 1)

async def app(scope, receive, send):
    assert scope["type"] == "http"
    culprit()
"""


def test_a_worker_whose_interpreter_is_held_shows_the_line(operate: Operate) -> None:
    operated = operate(HELD, "-w", "2", "--timeout", "100", wait=2)
    operated.service.begin()

    def held() -> str | None:
        texts = operated.ask("/stacks").text.split("\nWorker ")
        return next((t for t in texts if "C code holds its interpreter." in t), None)

    assert "in culprit\n" in wait_for(held, "the one that is held")
    for pid in operated.service.workers():
        operated.service.kill(signal.SIGKILL, pid)  # no TERM reaches it


def test_a_worker_that_boots_shows_the_import(operate: Operate, tmp_path: Path) -> None:
    hold = tmp_path / "hold-import"
    hold.touch()
    operated = operate(SLOW_IMPORT, wait=0)
    operated.service.wait_said("import")
    answer = operated.wait("/stacks/0", 200)
    assert "import_app" in answer.text
    assert 'main.py", line' in answer.text
    hold.unlink()
    operated.service.ready()


def test_a_worker_that_does_not_exist_is_404(operate: Operate) -> None:
    operated = operate()
    for worker in "7", "x", "-1", "0/0":
        assert operated.asked(f"/stacks/{worker}") == 404


def test_a_child_of_the_app_does_not_stand_in_for_the_successor(
    operate: Operate, tmp_path: Path
) -> None:
    hold = tmp_path / "hold-child"
    hold.touch()
    operated = operate(BUSY, "-w", "2", wait=2)
    parent = int(operated.service.get("/fork").text)
    worker = id_of(operated, parent)
    operated.service.kill(signal.SIGKILL, parent)
    operated.service.ready(3)

    def successor() -> bool:
        text = operated.ask(f"/stacks/{worker}").text
        return "MainThread" in text and f"(pid {parent}," not in text

    wait_for(successor, "the successor's stacks")
    hold.unlink()
