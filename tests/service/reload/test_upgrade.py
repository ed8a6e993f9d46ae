"""USR2: a new gunicorn takes over from the old one, or gives back."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.tools.apps import HOOKS, LIFE
from tests.tools.service import READY, Service, wait_for


@pytest.fixture
def service(serve: Serve, tmp_path: Path) -> Service:
    """Start an arbiter with a pid file and a worker."""
    return serve(LIFE, "--pid", str(tmp_path / "pid"), conf=HOOKS)


@pytest.fixture
def daemon(serve: Serve, tmp_path: Path) -> Iterator[Service]:
    """Start the same detached, which is the only kind that heeds WINCH."""
    log, pid_file = tmp_path / "error.log", tmp_path / "pid"
    options = "--daemon", "--enable-stdio-inheritance", "--pid", str(pid_file)
    daemon = serve(LIFE, *options, "--error-logfile", str(log), conf=HOOKS, wait=0)
    assert daemon.wait_exit() == 0
    daemon.adopt(pid_in(pid_file))
    wait_for(lambda: READY in log.read_text(), "the daemon's worker")
    daemon.log_path = log
    yield daemon
    daemon.kill(signal.SIGTERM)
    daemon.wait_gone(daemon.pid)


def pid_in(pid_file: Path) -> int:
    wait_for(pid_file.exists, f"{pid_file.name} exists")
    return int(wait_for(pid_file.read_text, f"a pid in {pid_file.name}"))


def upgrade(service: Service, tmp_path: Path) -> int:
    """Send USR2, and return the pid of the new arbiter when its worker serves."""
    service.kill(signal.SIGUSR2)
    service.ready(2)
    new = pid_in(tmp_path / "pid.2")
    assert pid_in(tmp_path / "pid") == service.pid
    assert service.said("worker_exit") == [], "the old workers serve on"
    return new


@pytest.mark.parametrize(
    "signum", [signal.SIGTERM, signal.SIGQUIT], ids=["TERM", "QUIT"]
)
def test_a_new_arbiter_takes_over_when_the_old_one_is_told_to_stop(
    service: Service, tmp_path: Path, signum: signal.Signals
) -> None:
    old_workers = service.workers()
    new = upgrade(service, tmp_path)
    assert service.stop(signum) == 0
    for what in "closed", "worker_exit", "atexit":
        assert service.said(what) == old_workers

    service.adopt(new)
    service.wait_log("Master has been promoted")
    wait_for(lambda: pid_in(tmp_path / "pid") == new, "the pid file renamed")
    assert service.get().text == str(service.workers()[0])
    service.kill(signal.SIGTERM)
    service.wait_gone(new)
    assert "ERROR" not in service.log
    assert not list(tmp_path.glob("pid*"))


def test_an_old_worker_finishes_its_requests_after_an_upgrade(
    service: Service, tmp_path: Path
) -> None:
    hold = tmp_path / "hold-request"
    hold.touch()
    [worker] = service.workers()
    request = service.begin()
    service.wait_said("request")
    new = upgrade(service, tmp_path)
    service.kill(signal.SIGTERM)
    service.wait_log("Handling signal: term")
    hold.unlink()
    assert request.getresponse().read() == str(worker).encode()
    assert service.wait_exit() == 0

    service.adopt(new)
    assert service.get().text == str(service.workers()[0])
    service.kill(signal.SIGTERM)
    service.wait_gone(new)


def test_an_upgrade_can_be_taken_back(service: Service, tmp_path: Path) -> None:
    workers = service.workers()
    new = upgrade(service, tmp_path)
    service.kill(signal.SIGTERM, new)
    service.wait_gone(new)
    wait_for(lambda: not (tmp_path / "pid.2").exists(), "the new pid file removed")
    assert [pid for pid in service.workers() if pid != new] == workers
    assert {service.get().text for _ in range(4)} == {str(workers[0])}


def test_winch_stops_the_old_workers_and_hup_brings_them_back(
    daemon: Service, tmp_path: Path
) -> None:
    [old_worker] = daemon.workers()
    new = upgrade(daemon, tmp_path)
    [new_worker] = daemon.workers(new)

    daemon.kill(signal.SIGWINCH)
    daemon.wait_gone(old_worker)
    assert daemon.said("closed") == daemon.said("worker_exit") == [old_worker]
    assert {daemon.get().text for _ in range(4)} == {str(new_worker)}

    daemon.kill(signal.SIGHUP)
    daemon.ready(3)
    daemon.kill(signal.SIGTERM, new)
    daemon.wait_gone(new)
    [third_worker] = daemon.workers()
    assert third_worker != old_worker
    assert daemon.get().text == str(third_worker)
    assert "ERROR" not in daemon.log


def test_winch_then_quit_completes_an_upgrade(daemon: Service, tmp_path: Path) -> None:
    [old_worker] = daemon.workers()
    new = upgrade(daemon, tmp_path)
    daemon.kill(signal.SIGWINCH)
    daemon.wait_gone(old_worker)
    daemon.kill(signal.SIGQUIT)
    daemon.wait_gone(daemon.pid)
    daemon.adopt(new)
    assert daemon.get().text == str(daemon.workers()[0])
    daemon.wait_log("Master has been promoted")
