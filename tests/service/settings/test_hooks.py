"""gunicorn's server hooks: each once for each event, in the process it is meant for.

``pre_request`` and ``post_request`` are tests/access/test_gunicorn_objects.py's.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.tools.apps import LIFE, SAY
from tests.tools.service import Service, wait_for

# Every hook says what it was given: an arbiter or a worker with its pid, a number.
NOTES = (
    SAY
    + """
def describe(argument):
    if isinstance(argument, int) or argument is None:
        return str(argument)
    return f"{type(argument).__name__}:{getattr(argument, 'pid', 'unborn')}"

def note(hook, *arguments):
    say(" ".join([hook, *map(describe, arguments)]))

def on_starting(server): note("on_starting", server)
def on_reload(server): note("on_reload", server)
def when_ready(server): note("when_ready", server)
def pre_fork(server, worker): note("pre_fork", server, worker)
def post_fork(server, worker): note("post_fork", server, worker)
def post_worker_init(worker): note("post_worker_init", worker)
def worker_int(worker): note("worker_int", worker)
def worker_abort(worker): note("worker_abort", worker)
def pre_exec(server): note("pre_exec", server)
def child_exit(server, worker): note("child_exit", server, worker)
def worker_exit(server, worker): note("worker_exit", server, worker)
def nworkers_changed(server, new, old): note("nworkers_changed", server, new, old)
def on_exit(server): note("on_exit", server)
"""
)

HOOKS = {line[4 : line.index("(")] for line in NOTES.splitlines() if "): note" in line}


def notes(service: Service, pid: int) -> list[str]:
    """Return what the hooks noted in the process *pid*, in order."""
    lines = [line.split(" ", 1) for line in service.out.splitlines()]
    return [
        note
        for said_by, note in lines
        if said_by == str(pid) and note.split()[0] in HOOKS
    ]


def test_the_hooks_of_a_start_and_a_stop(serve: Serve) -> None:
    service = serve(LIFE, "-w", "2", wait=2, conf=NOTES)
    workers, arbiter = service.workers(), f"Arbiter:{service.pid}"
    assert service.stop() == 0

    *started, last = notes(service, service.pid)
    assert started[:5] == [
        "nworkers_changed Arbiter:unborn 2 None",
        f"on_starting {arbiter}",
        f"when_ready {arbiter}",
        f"pre_fork {arbiter} Worker:[booting]",
        f"pre_fork {arbiter} Worker:[booting]",
    ]
    assert sorted(started[5:]) == sorted(
        f"child_exit {arbiter} Worker:{worker}" for worker in workers
    )
    assert last == f"on_exit {arbiter}"
    for worker in workers:
        assert notes(service, worker) == [
            f"post_fork {arbiter} Worker:{worker}",
            f"post_worker_init Worker:{worker}",
            f"worker_exit {arbiter} Worker:{worker}",
        ]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGQUIT], ids=["INT", "QUIT"])
def test_the_hooks_of_an_interrupted_worker(
    serve: Serve, signum: signal.Signals
) -> None:
    service = serve(LIFE, conf=NOTES)
    [worker], arbiter = service.workers(), f"Arbiter:{service.pid}"
    service.kill(signum, worker)
    service.ready(2)
    assert notes(service, worker)[2:] == [
        f"worker_int Worker:{worker}",
        f"worker_exit {arbiter} Worker:{worker}",
    ]
    assert (
        notes(service, service.pid).count(f"child_exit {arbiter} Worker:{worker}") == 1
    )


BLOCKED = """
import time

async def app(scope, receive, send):
    assert scope["type"] == "http"
    time.sleep(3600)
"""


def test_the_hooks_of_a_worker_that_hangs(serve: Serve) -> None:
    service = serve(BLOCKED, "--timeout", "2", conf=NOTES)
    [worker], arbiter = service.workers(), f"Arbiter:{service.pid}"
    service.begin()
    service.ready(2)
    assert notes(service, worker)[2:] == [
        f"worker_abort Worker:{worker}",
        f"worker_exit {arbiter} Worker:{worker}",
    ]
    assert (
        notes(service, service.pid).count(f"child_exit {arbiter} Worker:{worker}") == 1
    )


def test_the_hooks_of_a_reload(serve: Serve) -> None:
    service = serve(LIFE, conf=NOTES)
    [old], arbiter = service.workers(), f"Arbiter:{service.pid}"
    before = len(notes(service, service.pid))
    service.kill(signal.SIGHUP)
    service.ready(2)
    service.wait_said(f"child_exit {arbiter} Worker:{old}")
    assert notes(service, service.pid)[before:] == [
        f"nworkers_changed {arbiter} 1 1",
        f"on_reload {arbiter}",
        f"pre_fork {arbiter} Worker:[booting]",
        f"child_exit {arbiter} Worker:{old}",
    ]
    assert notes(service, old)[2:] == [f"worker_exit {arbiter} Worker:{old}"]


def test_the_hooks_of_a_change_of_the_number_of_workers(serve: Serve) -> None:
    service = serve(LIFE, conf=NOTES)
    arbiter = f"Arbiter:{service.pid}"
    service.kill(signal.SIGTTIN)
    service.ready(2)
    service.kill(signal.SIGTTOU)
    wait_for(lambda: len(service.workers()) == 1, "one worker")
    assert service.said(f"nworkers_changed {arbiter} 2 1") == [service.pid]
    assert service.said(f"nworkers_changed {arbiter} 1 2") == [service.pid]


def test_the_hooks_of_an_upgrade(serve: Serve, tmp_path: Path) -> None:
    service = serve(LIFE, "--pid", str(tmp_path / "pid"), conf=NOTES)
    service.kill(signal.SIGUSR2)
    service.ready(2)
    new = int((tmp_path / "pid.2").read_text())
    # In the new process, before it becomes a gunicorn of its own.
    assert notes(service, new)[:3] == [
        f"pre_exec Arbiter:{service.pid}",
        "nworkers_changed Arbiter:unborn 1 None",
        f"on_starting Arbiter:{new}",
    ]
    assert service.stop() == 0
    service.adopt(new)
    service.kill(signal.SIGTERM)
    service.wait_gone(new)
    assert notes(service, new)[-1] == f"on_exit Arbiter:{new}"


def test_a_worker_that_fails_to_boot_runs_worker_exit(serve: Serve) -> None:
    service = serve("raise LookupError", conf=NOTES, wait=0)
    assert service.wait_exit() == 3
    arbiter = f"Arbiter:{service.pid}"
    [worker] = [
        int(line.split()[0]) for line in service.out.splitlines() if "post_fork" in line
    ]
    assert notes(service, worker) == [
        f"post_fork {arbiter} Worker:{worker}",
        f"worker_exit {arbiter} Worker:{worker}",
    ]
