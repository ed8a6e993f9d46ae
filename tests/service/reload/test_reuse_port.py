"""With ``reuse_port`` each worker has its own backlog, which no change may lose."""

from __future__ import annotations

import inspect
import signal
import socket
from pathlib import Path

import httpx
import pytest
from gunicorn.arbiter import Arbiter

from tests.conftest import Serve
from tests.tools.apps import SLOW_IMPORT
from tests.tools.load import ECHO, Load
from tests.tools.service import wait_for

pytestmark = pytest.mark.skipif(
    "create_sockets" not in inspect.getsource(Arbiter.spawn_worker),
    reason="this gunicorn has one listener for all workers, with reuse_port too",
)

BROKEN = "import time; time.sleep(0.3)\nraise ValueError('no release')"


@pytest.mark.parametrize("place", ["import", "startup"])
def test_a_worker_that_boots_is_sent_no_connection(
    serve: Serve, tmp_path: Path, port: int, place: str
) -> None:
    """The kernel would send it its share, and nobody would answer until it serves."""
    bind = f"127.0.0.1:{port}"
    service = serve(SLOW_IMPORT, "--reuse-port", bind=bind)
    service.wait_log(r"Application startup complete")
    [first] = service.workers()
    hold = tmp_path / f"hold-{place}"
    hold.touch()
    service.kill(signal.SIGTTIN)
    service.wait_said(place, 2)
    answers = {get(port) for _ in range(40)}
    assert answers == {first}
    hold.unlink()
    service.ready(2)
    wait_for(lambda: get(port) != first, "an answer of the second worker")


def get(port: int) -> int:
    return int(httpx.get(f"http://127.0.0.1:{port}/").text)


def test_a_release_that_cannot_boot_loses_no_connection(
    serve: Serve, tmp_path: Path, port: int
) -> None:
    options = "--reuse-port", "-w", "2", "--graceful-timeout", "5"
    service = serve(ECHO, *options, bind=f"127.0.0.1:{port}", wait=2)
    with Load(("127.0.0.1", port)) as load:
        (tmp_path / "main.py").write_text(BROKEN)
        service.kill(signal.SIGHUP)
        service.wait_log(r"cannot start: ValueError", 2)
        load.answer(100)
    assert load.failures == []


@pytest.mark.parametrize("how", ["reload", "recycle"])
def test_a_change_of_workers_loses_no_connection(
    serve: Serve, port: int, how: str
) -> None:
    options = "--reuse-port", "-w", "2"
    service = serve(ECHO, *options, bind=f"127.0.0.1:{port}", wait=2)
    with Load(("127.0.0.1", port)) as load:
        for _ in range(3):
            before = service.workers()
            if how == "reload":
                service.kill(signal.SIGHUP)
            else:
                service.kill(signal.SIGTERM, before[0])
            wait_for(lambda b=before: b[0] not in service.workers(), "a worker gone")
            wait_for(lambda: len(service.workers()) == 2, "two workers")
            load.answer(50)
    assert load.failures == []


def test_an_address_that_another_program_has_fails_the_boot(
    serve: Serve,
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        service = serve(ECHO, "--reuse-port", bind=taken, wait=0)
        assert service.wait_exit() == 3
    service.wait_log(rf"cannot start: cannot bind {taken}: Address already in use")
