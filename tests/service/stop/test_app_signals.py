"""An app that takes the worker's signals hears them, and so does the worker."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.tools.apps import HOOKS, SAY
from tests.tools.service import Service, wait_for

# Takes SIGNAL the WAY that the path says, or at its import or startup the environment.
APP = (
    SAY
    + """
import asyncio, atexit, signal, sys

SIGNAL = signal.Signals[os.environ.get("SIGNAL", "SIGTERM")]
atexit.register(say, "atexit")

def hear(*args):
    say("heard")

def leave(*args):
    say("heard")
    sys.exit(3)

def fail(*args):
    say("heard")
    raise ValueError

def loop():
    return asyncio.get_running_loop()

def hear_and_stop():
    say("heard")
    loop().stop()

def chain():
    def handler(signum, frame):
        say("heard")
        before(signum, frame)
    before = signal.signal(SIGNAL, handler)

def restore():
    before = signal.signal(SIGNAL, hear)
    signal.signal(SIGNAL, before)

def add_and_remove():
    loop().add_signal_handler(SIGNAL, hear)
    assert loop().remove_signal_handler(SIGNAL)
    assert not loop().remove_signal_handler(SIGNAL)

def refused():
    try:
        loop().add_signal_handler(SIGNAL, app)
    except TypeError:
        say("heard")

def wake():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    loop().add_reader(reading, lambda: os.read(reading, 1) and say("heard"))

TAKE = {
    "": lambda: None,
    "loop": lambda: loop().add_signal_handler(SIGNAL, hear, "an argument"),
    "loop-stop": lambda: loop().add_signal_handler(SIGNAL, hear_and_stop),
    "loop-exit": lambda: loop().add_signal_handler(SIGNAL, leave),
    "loop-remove": add_and_remove,
    "loop-refused": refused,
    "plain": lambda: signal.signal(SIGNAL, hear),
    "plain-exit": lambda: signal.signal(SIGNAL, leave),
    "plain-fail": lambda: signal.signal(SIGNAL, fail),
    "chain": chain,
    "restore": restore,
    "twice": lambda: (chain(), loop().add_signal_handler(SIGNAL, hear)),
    "ignore": lambda: signal.signal(SIGNAL, signal.SIG_IGN),
    "default": lambda: signal.signal(SIGNAL, signal.SIG_DFL),
    "wakeup": wake,
}

TAKE[os.environ.get("AT_IMPORT", "")]()

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        TAKE[os.environ.get("AT_STARTUP", "")]()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        say("closed")
        await send({"type": "lifespan.shutdown.complete"})
        return
    TAKE[scope["path"][1:]]()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""
)

LOOPS = pytest.mark.parametrize(
    "worker", ["uvworker.Worker", "uvworker.H11Worker"], ids=["uvloop", "asyncio"]
)


def assert_drained(service: Service, worker: int) -> None:
    ending = ["closed", "worker_exit", "atexit"]
    said = [line.split(" ", 1) for line in service.out.splitlines()]
    assert [what for pid, what in said if pid == str(worker)][-3:] == ending
    assert "exited with code" not in service.log
    assert "was sent" not in service.log


@LOOPS
@pytest.mark.parametrize("way", ["loop", "loop-stop", "loop-exit", "plain", "chain"])
def test_a_stop_drains_a_worker_whose_app_took_term_and_the_app_hears_it(
    serve: Serve, worker: str, way: str
) -> None:
    service = serve(APP, worker=worker, conf=HOOKS)
    pid = int(service.get("/" + way).text)
    assert service.stop() == 0
    assert service.said("heard") == [pid]
    assert_drained(service, pid)
    assert "ERROR" not in service.log


@LOOPS
@pytest.mark.parametrize("way", ["loop-remove", "loop-refused", "restore", "twice"])
def test_a_stop_drains_a_worker_whose_app_took_term_back_and_forth(
    serve: Serve, worker: str, way: str
) -> None:
    service = serve(APP, worker=worker, conf=HOOKS)
    pid = int(service.get("/" + way).text)
    assert service.stop() == 0
    assert_drained(service, pid)


@LOOPS
@pytest.mark.parametrize("way", ["ignore", "default", "wakeup", "plain-exit"])
def test_a_signal_that_no_loop_can_see_is_taken_back_at_startup(
    serve: Serve, worker: str, way: str
) -> None:
    service = serve(APP, worker=worker, conf=HOOKS, env={"AT_STARTUP": way})
    [pid] = service.workers()
    assert service.stop() == 0
    assert_drained(service, pid)
    assert "ERROR" not in service.log


def catches(pid: int, signum: signal.Signals) -> bool:
    """Whether the kernel would hand the process *signum*."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [caught] = [line.split()[1] for line in lines if line.startswith("SigCgt:")]
    return bool(int(caught, 16) >> (signum - 1) & 1)


@pytest.mark.parametrize("way", ["ignore", "default"])
def test_a_signal_that_no_loop_can_see_is_taken_back_while_serving(
    serve: Serve, way: str
) -> None:
    service = serve(APP, conf=HOOKS)
    pid = int(service.get("/" + way).text)
    wait_for(lambda: catches(pid, signal.SIGTERM), "a handler of TERM")
    assert service.stop() == 0
    assert_drained(service, pid)


@LOOPS
@pytest.mark.parametrize("way", ["plain", "plain-exit", "plain-fail"])
def test_a_handler_of_the_import_runs_beside_the_worker_s(
    serve: Serve, worker: str, way: str
) -> None:
    service = serve(APP, worker=worker, conf=HOOKS, env={"AT_IMPORT": way})
    [pid] = service.workers()
    service.get()
    assert service.stop() == 0
    assert service.said("heard") == [pid]
    assert_drained(service, pid)
    assert ("ERROR" in service.log) == (way == "plain-fail")


@LOOPS
@pytest.mark.parametrize("way", ["loop", "loop-stop", "plain-exit"])
def test_a_worker_whose_app_took_term_leaves_after_a_reload(
    serve: Serve, worker: str, way: str
) -> None:
    service = serve(APP, worker=worker, conf=HOOKS, env={"AT_STARTUP": way})
    [before] = service.workers()
    service.kill(signal.SIGHUP)
    service.wait_gone(before)
    assert before in service.said("heard")
    assert_drained(service, before)
    assert int(service.get().text) != before


@pytest.mark.parametrize("name", ["SIGINT", "SIGQUIT"])
@pytest.mark.parametrize("way", ["loop", "loop-exit", "plain", "ignore"])
def test_a_worker_whose_app_took_the_quick_stop_is_gone_quickly(
    serve: Serve, name: str, way: str
) -> None:
    env = {"SIGNAL": name, "AT_STARTUP": way}
    service = serve(APP, conf=HOOKS, env=env)
    [pid] = service.workers()
    service.kill(signal.Signals[name], pid)
    service.wait_gone(pid)
    assert service.said("worker_int") == service.said("worker_exit") == [pid]
    assert service.said("heard") == [pid] * (way != "ignore")


@pytest.mark.parametrize("way", ["loop", "plain"])
def test_log_files_are_reopened_beside_the_app_s_own_usr1(
    serve: Serve, tmp_path: Path, way: str
) -> None:
    log = tmp_path / "access.log"
    env = {"SIGNAL": "SIGUSR1", "AT_STARTUP": way}
    service = serve(APP, "--access-logfile", str(log), env=env)
    log.rename(tmp_path / "old.log")
    service.kill(signal.SIGUSR1)
    service.wait_said("heard")
    wait_for(log.exists, "a new log")
    wait_for(lambda: service.get() and log.read_text(), "a line in it")


@pytest.mark.parametrize("way", ["plain", "plain-exit"])
def test_a_hang_is_told_to_the_hook_beside_the_app_s_own_abrt(
    serve: Serve, way: str
) -> None:
    service = serve(APP, conf=HOOKS, env={"SIGNAL": "SIGABRT", "AT_STARTUP": way})
    [pid] = service.workers()
    service.kill(signal.SIGABRT, pid)
    service.wait_gone(pid)
    assert service.said("worker_abort") == service.said("heard") == [pid]
    service.wait_log("exited with code 1")
