"""While its event loop turns, a worker lives, however long that takes."""

from __future__ import annotations

import itertools
import signal
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.tools.apps import LIFE
from tests.tools.service import Service, beats


def assert_never_timed_out(service: Service) -> None:
    assert "WORKER TIMEOUT" not in service.log
    assert "No heartbeat" not in service.log


# Among many processes, one that may be silent for a second only may well be.
@pytest.mark.parametrize("timeout", [pytest.param(1, marks=pytest.mark.alone), 30])
def test_an_idle_worker_beats_at_least_once_a_second(
    serve: Serve, timeout: int
) -> None:
    service = serve(LIFE, "--timeout", str(timeout))
    [worker] = service.workers()
    seen = beats(worker, lasting=3)
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(seen))
    # The median: this machine, not the worker, may be late now and then.
    assert gaps[len(gaps) // 2] < min(1.1, timeout / 2)
    assert service.workers() == [worker]
    assert_never_timed_out(service)


def test_a_slow_asynchronous_startup_is_not_killed(
    serve: Serve, tmp_path: Path
) -> None:
    hold = tmp_path / "hold-startup"
    hold.touch()
    service = serve(LIFE, "--timeout", "4", wait=0)
    [worker] = service.wait_said("startup")
    beats(worker, lasting=5.5)
    hold.unlink()
    service.ready()
    assert service.get().text == str(worker)
    assert_never_timed_out(service)


def test_a_long_drain_and_a_slow_shutdown_are_not_killed(
    serve: Serve, tmp_path: Path
) -> None:
    service = serve(LIFE, "--timeout", "4", "--graceful-timeout", "60")
    [worker] = service.workers()
    for place in "request", "shutdown":
        (tmp_path / f"hold-{place}").touch()
    request = service.begin()
    service.wait_said("request")

    service.kill(signal.SIGTERM, worker)
    beats(worker, lasting=5.5)
    (tmp_path / "hold-request").unlink()
    assert request.getresponse().read() == str(worker).encode()

    service.wait_said("shutdown")
    beats(worker, lasting=5.5)
    (tmp_path / "hold-shutdown").unlink()
    assert service.wait_said("closed") == [worker]
    service.wait_gone(worker)
    assert_never_timed_out(service)


BLOCKS = """
import time

async def app(scope, receive, send):
    assert scope["type"] == "http"
    time.sleep(3)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"patience"})
"""


def test_timeout_zero_means_no_limit(serve: Serve) -> None:
    service = serve(BLOCKS, "--timeout", "0")
    workers = service.workers()
    assert service.get().text == "patience"
    assert service.workers() == workers
    assert "Thread" not in service.log
    assert_never_timed_out(service)
