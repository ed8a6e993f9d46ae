"""A blocked event loop: the worker is replaced, and the log says what blocked it."""

from __future__ import annotations

import re
import signal
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import HELLO, Serve
from tests.tools.apps import HOOKS, SAY
from tests.tools.service import wait_for

# Serves "/", waits at "/wait", and never comes back from "/block".
BLOCKING = """
import asyncio, ctypes, os, re, threading, time

{block}

async def wait_for_news():
    await asyncio.Event().wait()

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/wait":
        await wait_for_news()
    if scope["path"] == "/block":
        never_return()
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"%d" % os.getpid()}})
"""


def blocking(block: str) -> str:
    return BLOCKING.format(block=textwrap.dedent(block))


PYTHON_BLOCKS = {
    "loop": """
        def never_return():
            while True: pass  # blocking line
    """,
    "sleep": """
        def never_return():
            time.sleep(3600)  # blocking line
    """,
    "lock": """
        def never_return():
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()  # blocking line
    """,
    "regex": """
        def never_return():
            re.match("(a|a)*$", "a" * 64 + "b")  # blocking line
    """,
}

IMPORTS_LONG = """
import os, time
while not os.path.exists("go"):
    time.sleep(0.01)
"""
SIGNALS = {signal.SIGABRT, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_signals_go_to_the_main_thread_of_a_worker(
    serve: Serve, tmp_path: Path
) -> None:
    """Python wakes no other from a system call, as the sleep that blocks a loop."""
    env = {"UVWORKER_OPS_BIND": "unix:ops.sock", "UVWORKER_BOOT_TIMEOUT": "60"}
    service = serve(IMPORTS_LONG + HELLO, env=env, wait=0)
    [booting] = service.wait_log(r"Booting worker with pid: (\d+)")
    worker = int(booting[1])
    wait_for(lambda: len(masks(worker)) == 2, "the threads of a boot")
    assert all(mask >= SIGNALS for mask in masks(worker))
    (tmp_path / "go").touch()
    service.ready(1)
    service.wait_log("Application startup complete")
    wait_for(lambda: len(masks(worker)) == 2, "the threads of a worker that serves")
    assert all(mask >= SIGNALS for mask in masks(worker))
    own = Path(f"/proc/{worker}/status")  # until it has started its threads, it blocks
    wait_for(lambda: not blocked(own.read_text()), "signals of the main thread")


def masks(worker: int) -> list[set[int]]:
    """Return what each thread of *worker* but the main one blocks.

    Without those of the kernel, which io_uring has for an old uvloop.
    """
    found = []
    for thread in Path(f"/proc/{worker}/task").iterdir():
        with suppress(FileNotFoundError):  # it has just ended
            status = (thread / "status").read_text()
            if thread.name != str(worker) and "\tiou-" not in status:
                found.append(blocked(status))
    return found


def blocked(status: str) -> set[int]:
    [mask] = re.findall(r"^SigBlk:\t(\w+)$", status, re.MULTILINE)
    return {number for number in range(1, 65) if int(mask, 16) >> number - 1 & 1}


# A mutex of the C library, taken twice, through ctypes that keeps the interpreter's
# lock: no signal interrupts it and no Python code runs again.
C_BLOCK = """
    def never_return():
        mutex = ctypes.create_string_buffer(64)
        lock = ctypes.PyDLL(None).pthread_mutex_lock
        lock(mutex)
        lock(mutex)  # blocking line
"""


def blocking_line(directory: Path) -> int:
    lines = (directory / "main.py").read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if "blocking line" in line)


@pytest.mark.parametrize("block", PYTHON_BLOCKS.values(), ids=PYTHON_BLOCKS.keys())
def test_a_blocked_worker_names_the_line_and_is_replaced(
    serve: Serve, tmp_path: Path, block: str
) -> None:
    service = serve(blocking(block), "--timeout", "2", conf=HOOKS)
    [worker] = service.workers()
    service.begin("/wait")
    service.begin("/block")
    service.wait_said("worker_exit")
    service.ready(2)
    assert service.workers() != [worker]
    assert service.get().text == str(service.workers()[0])

    report = service.log.partition("No heartbeat for 2 s")[2]
    assert "Thread MainThread" in report
    assert f'main.py", line {blocking_line(tmp_path)}, in never_return' in report
    assert "in wait_for_news" in report, "a task that waits, not the one that blocks"
    assert service.said("worker_abort") == service.said("worker_exit") == [worker]


def test_a_worker_blocked_in_c_code_leaves_its_stack_and_is_replaced(
    serve: Serve, tmp_path: Path
) -> None:
    service = serve(blocking(C_BLOCK), "--timeout", "2", "-w", "1")
    [worker] = service.workers()
    service.begin("/block")
    service.ready(2)
    assert service.workers() != [worker]
    assert f'main.py", line {blocking_line(tmp_path)} in never_return' in service.log


def test_the_stacks_of_a_worker_blocked_in_c_code_stand_in_its_error_log(
    serve: Serve, tmp_path: Path
) -> None:
    log = tmp_path / "errors.log"
    service = serve(
        blocking(C_BLOCK), "--timeout", "2", "--error-logfile", str(log), wait=0
    )
    wait_for(log.exists, "an error log")
    service.log_path = log
    service.ready()
    service.begin("/block")
    service.ready(2)
    assert f'main.py", line {blocking_line(tmp_path)} in never_return' in service.log


CRASH = """
    def never_return():
        ctypes.string_at(0)  # blocking line
"""


def test_a_worker_that_crashes_in_c_code_leaves_its_stack_and_is_replaced(
    serve: Serve, tmp_path: Path
) -> None:
    service = serve(blocking(CRASH))
    service.begin("/block")
    service.ready(2)
    assert f'main.py", line {blocking_line(tmp_path)} in never_return' in service.log


HANG_TOGETHER = """
import asyncio, os, time
from pathlib import Path

async def hang():
    while not Path(f"hang-{os.getpid()}").exists():
        await asyncio.sleep(0.02)
    time.sleep(3600)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        hanging = asyncio.create_task(hang())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        hanging.cancel()
        await send({"type": "lifespan.shutdown.complete"})
"""
SLOW_ABORT = """
def worker_abort(worker):
    import time
    time.sleep(0.05 * worker.age)
    say("worker_abort")
"""


def test_workers_that_hang_together_all_say_their_last_words(
    serve: Serve, tmp_path: Path
) -> None:
    """The end of the first wakes the arbiter, which would kill the others at once."""
    options = "--timeout", "2", "--graceful-timeout", "2", "-w", "4"
    service = serve(HANG_TOGETHER, *options, conf=SAY + SLOW_ABORT, wait=4)
    workers = service.workers()
    for worker in workers:
        (tmp_path / f"hang-{worker}").touch()
    service.ready(8)
    assert sorted(service.said("worker_abort")) == sorted(workers)


STUBBORN = """
    def never_return():
        while True:
            try:
                time.sleep(3600)  # blocking line
            except BaseException:
                pass
"""
FORGETFUL = """
    def never_return():
        try:
            time.sleep(3600)  # blocking line
        except BaseException:
            pass
"""


@pytest.mark.parametrize("block", [STUBBORN, FORGETFUL], ids=["stubborn", "forgetful"])
def test_an_app_that_catches_everything_is_replaced_all_the_same(
    serve: Serve, tmp_path: Path, block: str
) -> None:
    service = serve(blocking(block), "--timeout", "2", conf=HOOKS)
    [worker] = service.workers()
    service.begin("/block")
    service.ready(2)
    assert service.workers() != [worker]
    assert service.said("worker_abort") == [worker]
    assert f'main.py", line {blocking_line(tmp_path)}, in never_return' in service.log


BLOCKED_STARTUP = (
    SAY
    + """
import time
from pathlib import Path

def connect_to_the_database():
    while Path("hold-startup").exists():
        say("blocks")
        time.sleep(3600)  # blocking line

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        connect_to_the_database()
        await send({"type": "lifespan.startup.complete"})
        await receive()
"""
)


def test_a_startup_that_blocks_the_loop_is_reported_and_tried_again(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "hold-startup").touch()
    service = serve(BLOCKED_STARTUP, "--timeout", "2", conf=HOOKS, wait=0)
    [worker] = service.wait_said("blocks")
    (tmp_path / "hold-startup").unlink()  # the worker sleeps on
    service.ready()
    assert service.workers() != [worker]
    assert f"{blocking_line(tmp_path)}, in connect_to_the_database" in service.log
    assert service.said("worker_abort") == [worker]
