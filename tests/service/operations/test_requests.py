"""The requests in flight of a service: in its status, and in the log after a death."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.service.operations.conftest import Operate, Operated
from tests.tools.apps import LIFE
from tests.tools.service import wait_for

LISTED = {"UVWORKER_OPS_REQUESTS": "true"}
DIED = r"Worker 0 \(pid {}\) was killed by {} with {} request\(s\) in flight: (.*)\."


def listed_by(operated: Operated) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = operated.ask("/status.json").json()[
        "requests_in_flight"
    ]
    return listed


def test_the_status_lists_them_without_their_query(
    operate: Operate, tmp_path: Path
) -> None:
    hold = tmp_path / "hold-request"
    hold.touch()
    operated = operate(LIFE, "-w", "2", wait=2, **LISTED)
    requests = [operated.service.begin(f"/a%20b?token={i}") for i in range(3)]
    operated.service.wait_said("request", 3)
    listed = listed_by(operated)
    assert [(r["method"], r["path"]) for r in listed] == [("GET", "/a%20b")] * 3
    assert {r["worker"] for r in listed} <= {0, 1}
    ages = [r["age"] for r in listed]
    assert ages == sorted(ages, reverse=True)
    hold.unlink()
    assert {request.getresponse().status for request in requests} == {200}
    wait_for(lambda: listed_by(operated) == [], "none is listed")


def test_they_are_not_listed_unless_asked_for(operate: Operate) -> None:
    assert operate().ask("/status.json").json()["requests_in_flight"] is None


@pytest.mark.parametrize("worker", ["uvworker.Worker", "uvworker.H11Worker"])
def test_a_worker_that_is_killed_leaves_them_in_the_log(
    serve: Serve, tmp_path: Path, worker: str
) -> None:
    (tmp_path / "hold-request").touch()
    service = serve(LIFE, worker=worker, env=LISTED)
    [killed] = service.workers()
    for _ in range(2):
        service.begin("/held?token=secret")
    service.wait_said("request", 2)
    service.kill(signal.SIGKILL, killed)
    [died] = service.wait_log(DIED.format(killed, "SIGKILL", 2))
    assert re.fullmatch(r"GET '/held' for [\d.]+ s, GET '/held' for [\d.]+ s", died[1])
    assert "secret" not in service.log
    (tmp_path / "hold-request").unlink()
    service.ready(2)


CRASHES = """
import ctypes

async def app(scope, receive, send):
    assert scope["type"] == "http"
    ctypes.string_at(0)
"""


def test_a_crash_in_c_is_laid_to_its_request(serve: Serve) -> None:
    service = serve(CRASHES, env=LISTED)
    [crashed] = service.workers()
    service.begin("/crash")
    [died] = service.wait_log(DIED.format(crashed, "SIGSEGV", 1))
    assert died[1].startswith("GET '/crash' for ")
    service.ready(2)


def test_a_worker_that_leaves_in_order_leaves_none(
    serve: Serve, tmp_path: Path
) -> None:
    """Also where a request is cut at the deadline of the drain."""
    hold = tmp_path / "hold-request"
    hold.touch()
    service = serve(LIFE, "--graceful-timeout", "1", env=LISTED)
    [old] = service.workers()
    service.begin("/held")
    service.wait_said("request")
    service.kill(signal.SIGHUP)
    service.wait_gone(old)
    hold.unlink()
    service.kill(signal.SIGHUP)
    service.ready(3)
    assert "in flight" not in service.log
