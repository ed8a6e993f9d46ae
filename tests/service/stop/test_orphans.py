"""The arbiter dies: its workers finish, leave, and free the port."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.conftest import Serve
from tests.tools.apps import HOOKS, LIFE
from tests.tools.service import wait_for


def test_workers_leave_when_their_arbiter_is_killed(serve: Serve) -> None:
    service = serve(LIFE, "-w", "2", wait=2, conf=HOOKS)
    workers = service.workers()
    service.stop(signal.SIGKILL)
    wait_for(lambda: not service.session(), "all processes gone")
    for what in "closed", "worker_exit", "atexit":
        assert sorted(service.said(what)) == sorted(workers)
    assert "is gone; worker 0 leaves" in service.log
    assert service.refuses()


def test_orphans_finish_their_requests(serve: Serve, tmp_path: Path) -> None:
    hold = tmp_path / "hold-request"
    hold.touch()
    service = serve(LIFE, conf=HOOKS)
    [worker] = service.workers()
    request = service.begin()
    service.wait_said("request")
    service.stop(signal.SIGKILL)
    wait_for(
        lambda: "is gone; worker 0 leaves" in service.log, "the worker has noticed"
    )
    hold.unlink()
    assert request.getresponse().read() == str(worker).encode()
    service.wait_gone(worker)
    assert service.said("closed") == service.said("worker_exit") == [worker]


def test_a_worker_that_boots_as_an_orphan_leaves(serve: Serve, tmp_path: Path) -> None:
    hold = tmp_path / "hold-startup"
    hold.touch()
    service = serve(LIFE, conf=HOOKS, wait=0)
    [worker] = service.wait_said("startup")
    service.stop(signal.SIGKILL)
    service.wait_gone(worker)
    assert service.said("worker_exit") == [worker]
