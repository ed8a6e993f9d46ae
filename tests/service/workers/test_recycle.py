"""max_requests: a worker makes room for a fresh one after exactly as many requests."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.conftest import Serve
from tests.tools.apps import HOOKS, LIFE
from tests.tools.service import PATIENCE, Service, beats


def limits(service: Service) -> list[int]:
    """Return what the worn out workers named as their limit."""
    pattern = r"Recycling worker \d+: \d+ requests, max_requests (\d+)\."
    return [int(limit) for limit in re.findall(pattern, service.log)]


@pytest.mark.parametrize("keep_alive", [True, False], ids=["one", "each"])
def test_a_worker_serves_exactly_max_requests(serve: Serve, keep_alive: bool) -> None:
    """On one connection and on a connection for each request."""
    service = serve(LIFE, "--max-requests", "5", conf=HOOKS)
    with httpx.Client(base_url=service.url, timeout=PATIENCE) as client:
        headers = {} if keep_alive else {"connection": "close"}
        answers = [client.get("/", headers=headers) for _ in range(15)]
    served = Counter(int(answer.text) for answer in answers)
    assert list(served.values()) == [5, 5, 5]
    for worker in served:
        service.wait_gone(worker)
    assert limits(service) == [5, 5, 5]
    service.ready(4)
    for what in "closed", "worker_exit", "atexit":
        assert Counter(service.said(what)) == Counter(served.keys())
    assert "ERROR" not in service.log
    assert "WARNING" not in service.log


def test_jitter_adds_up_to_itself(serve: Serve) -> None:
    service = serve(LIFE, "--max-requests", "3", "--max-requests-jitter", "2")
    with httpx.Client(base_url=service.url, timeout=PATIENCE) as client:
        served = Counter(client.get("/").text for _ in range(20))
    counts = list(served.values())
    assert limits(service)[: len(counts) - 1] == counts[:-1]
    assert all(3 <= count <= 5 for count in counts[:-1])


def test_websockets_count(serve: Serve) -> None:
    service = serve(LIFE, "--max-requests", "3")
    [worker] = service.workers()
    url = service.url.replace("http", "ws")
    for _ in range(2):
        with connect(url, open_timeout=PATIENCE) as websocket:
            assert list(websocket) == []  # until the app closes
    assert service.get().text == str(worker)
    service.ready(2)
    assert limits(service) == [3]
    assert service.workers() != [worker]


def test_a_long_request_survives_the_recycling_of_its_worker(
    serve: Serve, tmp_path: Path
) -> None:
    hold = tmp_path / "hold-request"
    hold.touch()
    limits = "--max-requests", "2", "--timeout", "4", "--graceful-timeout", "60"
    service = serve(LIFE, *limits)
    [worker] = service.workers()
    requests = [service.begin(), service.begin()]
    service.wait_log("Recycling worker")
    beats(worker, lasting=5.5)
    hold.unlink()
    for request in requests:
        assert request.getresponse().read() == str(worker).encode()
    service.wait_gone(worker)
    service.ready(2)
    assert "WORKER TIMEOUT" not in service.log


def test_every_request_is_answered_while_workers_wear_out(serve: Serve) -> None:
    service = serve(LIFE, "-w", "2", "--max-requests", "10", wait=2)

    def ask(_: int) -> list[str]:
        with httpx.Client(base_url=service.url, timeout=PATIENCE) as client:
            return [client.get("/").text for _ in range(25)]

    with ThreadPoolExecutor(4) as clients:
        answers = [answer for asked in clients.map(ask, range(4)) for answer in asked]
    assert len(answers) == 100
    assert len(limits(service)) >= 3
    assert "ERROR" not in service.log


def test_no_limit_by_default(serve: Serve) -> None:
    service = serve(LIFE)
    [worker] = service.workers()
    with httpx.Client(base_url=service.url, timeout=PATIENCE) as client:
        assert {client.get("/").text for _ in range(200)} == {str(worker)}
    assert limits(service) == []
