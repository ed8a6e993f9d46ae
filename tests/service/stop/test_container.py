"""gunicorn as process 1, as in a container: signals, reaping, exit code as outside."""

from __future__ import annotations

import functools
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.tools.apps import HOOKS, LIFE, SAY
from tests.tools.service import Service, children_of, wait_for

# As root, and as anybody where the kernel lets them.
NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
OF_A_USER = (*NAMESPACE, "--user", "--map-root-user")


@functools.cache
def unshare() -> tuple[str, ...] | None:
    """Return the command that starts a PID namespace here, if any does."""
    for command in NAMESPACE, OF_A_USER:
        try:
            subprocess.run([*command, "true"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return command
    return None


Contain = Callable[..., Service]


@pytest.fixture
def contain(serve: Serve) -> Contain:
    """Start a service as `serve` does, in a PID namespace of its own."""
    command = unshare()
    if command is None:
        pytest.skip("PID namespaces are not permitted here (unshare --pid)")

    def start(*args: Any, wait: int = 1, **kwargs: Any) -> Service:
        service = serve(*args, under=command, wait=0, **kwargs)
        [arbiter] = wait_for(lambda: children_of(service.pid), "process 1")
        service.adopt(arbiter)
        if wait:
            service.wait_log("Starting gunicorn")
            service.ready(wait)
            assert inner_pid(arbiter) == 1
        return service

    return start


def inner_pid(pid: int) -> int:
    """Return the pid of a process as it sees itself."""
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("NSpid:")]
    return int(line.split()[-1])


def test_a_contained_service_stops_on_term(contain: Contain) -> None:
    service = contain(LIFE, "-w", "2", wait=2, conf=HOOKS)
    workers = sorted(map(inner_pid, service.workers()))
    assert int(service.get().text) in workers
    assert service.stop() == 0
    for what in "closed", "worker_exit", "atexit":
        assert sorted(service.said(what)) == workers
    assert "ERROR" not in service.log
    assert "WARNING" not in service.log


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGQUIT], ids=["INT", "QUIT"])
def test_a_contained_service_is_interrupted(
    contain: Contain, signum: signal.Signals
) -> None:
    service = contain(LIFE, "--graceful-timeout", "60", conf=HOOKS)
    [worker] = map(inner_pid, service.workers())
    assert service.stop(signum) == 0
    for what in "worker_int", "closed", "worker_exit", "atexit":
        assert service.said(what) == [worker]


def test_a_contained_service_reloads_and_scales(contain: Contain) -> None:
    service = contain(LIFE)
    [old] = service.workers()
    service.kill(signal.SIGHUP)
    service.ready(2)
    service.wait_gone(old)
    service.kill(signal.SIGTTIN)
    service.ready(3)
    wait_for(lambda: len(service.workers()) == 2, "two workers")
    assert service.stop() == 0
    assert "ERROR" not in service.log


def test_a_contained_worker_that_is_killed_is_replaced(contain: Contain) -> None:
    service = contain(LIFE)
    [worker] = service.workers()
    service.kill(signal.SIGKILL, worker)
    service.ready(2)
    assert service.workers() != [worker]
    assert service.get().text == str(inner_pid(service.workers()[0]))


def test_a_contained_service_that_cannot_boot_says_so_by_its_exit_code(
    contain: Contain,
) -> None:
    service = contain("raise LookupError", "-w", "4", wait=0)
    assert service.wait_exit() == 3


# Leaves a process without a parent behind: who is process 1 gets it.
ORPHANING = (
    SAY
    + """
import asyncio

async def app(scope, receive, send):
    assert scope["type"] == "http"
    orphan = "sleep 0.1; echo 0 orphan"
    shell = await asyncio.create_subprocess_exec("sh", "-c", f"({orphan}) & exit 7")
    answer = str(await shell.wait()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": answer})
"""
)


def test_orphans_of_the_app_are_reaped_and_harm_nobody(contain: Contain) -> None:
    service = contain(ORPHANING)
    workers = service.workers()
    assert service.get().text == "7"
    service.wait_said("orphan")
    wait_for(
        lambda: children_of(service.pid) == workers, "no zombie among the children"
    )
    assert "ERROR" not in service.log
    assert service.stop() == 0
