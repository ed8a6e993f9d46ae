"""A pause of all processes kills nobody; a worker that alone stands still is killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.tools.apps import LIFE
from tests.tools.service import Service, alive, beats, wait_for

NOISE = ("WORKER TIMEOUT", "No heartbeat", "Fatal Python error", "Timeout", "Traceback")

ORDERS = {
    "arbiter first": lambda arbiter, workers: [arbiter, *workers],
    "workers first": lambda arbiter, workers: [*workers, arbiter],
}


def stop_all(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: all(_stopped(pid) for pid in pids), "all stopped")


def _stopped(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"


def pass_by(seconds: float) -> None:
    """Wait on the clock that gunicorn looks at; a pause is nothing but time."""
    end = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() >= end, f"{seconds} s")


def assert_as_before(service: Service, workers: list[int]) -> None:
    assert service.workers() == workers
    assert service.get().status_code == 200
    for word in NOISE:
        assert word not in service.log


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("timeout", [2, 3])
def test_a_pause_of_all_processes_kills_no_worker(
    serve: Serve, timeout: int, order: str
) -> None:
    service = serve(LIFE, "--timeout", str(timeout), "-w", "2", wait=2)
    workers = service.workers()
    everyone = ORDERS[order](service.pid, workers)
    for _ in range(3):
        stop_all(list(reversed(everyone)))
        pass_by(timeout + 1.5)
        for pid in everyone:
            os.kill(pid, signal.SIGCONT)
        for worker in workers:
            beats(worker, lasting=1)
        assert_as_before(service, workers)


def test_a_pause_in_a_boot_is_not_counted_against_it(
    serve: Serve, tmp_path: Path
) -> None:
    hold = tmp_path / "hold-startup"
    hold.touch()
    env = {"UVWORKER_BOOT_TIMEOUT": "5"}
    service = serve(LIFE, "--timeout", "2", env=env, wait=0)
    [worker] = service.wait_said("startup")
    stop_all([worker, service.pid])
    pass_by(6)
    for pid in worker, service.pid:
        os.kill(pid, signal.SIGCONT)
    hold.unlink()
    service.ready()
    assert_as_before(service, [worker])


def test_a_worker_that_alone_is_stopped_is_replaced(serve: Serve) -> None:
    service = serve(LIFE, "--timeout", "2", "-w", "2", wait=2)
    stopped, other = service.workers()
    stop_all([stopped])
    wait_for(lambda: not alive(stopped), "the stopped worker killed")
    service.ready(3)
    assert other in service.workers()


def test_a_worker_that_stays_stopped_after_a_pause_is_replaced(serve: Serve) -> None:
    service = serve(LIFE, "--timeout", "2", "-w", "2", wait=2)
    stopped, other = service.workers()
    stop_all([stopped, other, service.pid])
    pass_by(3)
    for pid in service.pid, other:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: not alive(stopped), "the stopped worker killed")
    service.ready(3)
    assert other in service.workers()
