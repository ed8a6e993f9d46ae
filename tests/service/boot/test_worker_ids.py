"""The worker id: from 0, the smallest that no living worker has, and where it shows."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.service.reload.test_zero_loss import settled
from tests.tools.service import Service, wait_for

APP = """
import os

async def app(scope, receive, send):
    told = f"{os.getpid()} {scope['state']['worker_id']} {os.environ['UVWORKER_ID']}"
    if scope["type"] == "lifespan":
        await receive()
        print("started as", told, flush=True)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": told.encode()})
"""


def ids(service: Service) -> dict[int, int]:
    """Return the ids of the living workers by pid, as the app was told at its start."""
    told = re.findall(r"started as (\d+) (\d+) (\d+)\n", service.out)
    assert all(state == environ for _, state, environ in told)
    workers = service.workers()
    return {int(pid): int(id_) for pid, id_, _ in told if int(pid) in workers}


def test_the_app_the_environment_and_the_log_name_the_same_id(serve: Serve) -> None:
    service = serve(APP, "-w", "3", wait=3)
    assert sorted(ids(service).values()) == [0, 1, 2]
    logged = service.wait_log(r"\[(\d+)\] \[INFO\] .* complete \(worker (\d)\)", 3)
    assert {int(line[1]): int(line[2]) for line in logged} == ids(service)
    pid, in_scope, in_environ = map(int, service.get().text.split())
    assert in_scope == in_environ == ids(service)[pid]


def test_no_two_living_workers_share_an_id(serve: Serve) -> None:
    service = serve(APP, "-w", "3", wait=3)
    old = service.workers()
    service.kill(signal.SIGHUP)
    service.ready(6)
    seen = ids(service)
    assert len(set(seen.values())) == len(seen)
    settled(service, set(old), 3)
    assert sorted(ids(service).values()) == [3, 4, 5]


def test_a_replacement_takes_the_id_of_the_dead(serve: Serve) -> None:
    service = serve(APP, "-w", "3", wait=3)
    victim = next(pid for pid, id_ in ids(service).items() if id_ == 1)
    service.kill(signal.SIGKILL, victim)
    settled(service, {victim}, 3)
    assert sorted(ids(service).values()) == [0, 1, 2]


def test_the_process_title_names_the_id(serve: Serve) -> None:
    pytest.importorskip("setproctitle", reason="without it gunicorn sets no titles")
    service = serve(APP, "-w", "2", "--name", "shop", wait=2)

    def title(pid: int) -> str:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0 ")

    expected = {pid: f"worker {id_} [shop]" for pid, id_ in ids(service).items()}
    wait_for(
        lambda: all(title(pid).endswith(name) for pid, name in expected.items()),
        f"titles {expected}",
    )
