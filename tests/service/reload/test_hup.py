"""HUP, TTIN and TTOU: new code, more workers and fewer, while the service serves."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from tests.conftest import Serve
from tests.tools.apps import HOOKS, LIFE
from tests.tools.service import Service, wait_for

VERSION = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"{version}"}})
"""


def wait_workers(service: Service, count: int) -> set[int]:
    wait_for(lambda: len(service.workers()) == count, f"{count} workers")
    return set(service.workers())


def test_hup_serves_the_new_code_from_new_workers(serve: Serve, tmp_path: Path) -> None:
    service = serve(VERSION.format(version="old"), "-w", "2", wait=2)
    old = set(service.workers())
    assert service.get().text == "old"
    (tmp_path / "main.py").write_text(VERSION.format(version="newer"))
    service.kill(signal.SIGHUP)
    service.ready(4)
    for worker in old:
        service.wait_gone(worker)
    assert not old & wait_workers(service, 2)
    assert {service.get().text for _ in range(4)} == {"newer"}
    assert service.stop() == 0
    assert "ERROR" not in service.log


def test_hup_of_a_preloaded_app_keeps_its_code_and_the_log_says_so(
    serve: Serve, tmp_path: Path
) -> None:
    said = r"The reload keeps the code that preload_app has imported"
    service = serve(VERSION.format(version="old"), "--preload", "-w", "2", wait=2)
    assert not re.search(said, service.log)
    (tmp_path / "main.py").write_text(VERSION.format(version="newer"))
    for reloads in 1, 2:
        old = service.workers()
        service.kill(signal.SIGHUP)
        service.ready(2 + 2 * reloads)
        for worker in old:
            service.wait_gone(worker)
        assert service.get().text == "old"
        assert len(re.findall(said, service.log)) == reloads


def test_hup_reads_the_configuration_again(serve: Serve, tmp_path: Path) -> None:
    service = serve(LIFE, wait=1)
    conf = tmp_path / "gunicorn.conf.py"
    conf.write_text(conf.read_text() + "workers = 3\n")
    service.kill(signal.SIGHUP)
    service.ready(4)
    wait_workers(service, 3)


def test_an_old_worker_finishes_its_requests_after_hup(
    serve: Serve, tmp_path: Path
) -> None:
    hold = tmp_path / "hold-request"
    hold.touch()
    service = serve(LIFE, conf=HOOKS)
    [old] = service.workers()
    request = service.begin()
    service.wait_said("request")
    service.kill(signal.SIGHUP)
    service.ready(2)
    hold.unlink()
    assert request.getresponse().read() == str(old).encode()
    service.wait_gone(old)
    for what in "closed", "worker_exit", "atexit":
        assert service.said(what) == [old]


def test_graceful_timeout_bounds_an_old_worker_after_hup(
    serve: Serve, tmp_path: Path
) -> None:
    """The arbiter does not: it stops waiting, and leaves the worker alone."""
    hold = tmp_path / "hold-request"
    hold.touch()
    service = serve(LIFE, "--graceful-timeout", "3", conf=HOOKS)
    [old] = service.workers()
    service.begin()
    service.wait_said("request")
    service.kill(signal.SIGHUP)
    service.wait_gone(old)
    hold.unlink()
    for what in "closed", "worker_exit", "atexit":
        assert service.said(what) == [old]
    assert wait_workers(service, 1) == {int(service.get().text)}


STUBBORN_SHUTDOWN = """
import time

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        time.sleep(3600)
"""


def test_a_shutdown_that_blocks_holds_no_old_worker_after_hup(serve: Serve) -> None:
    service = serve(STUBBORN_SHUTDOWN, "--graceful-timeout", "2", "--timeout", "0")
    [old] = service.workers()
    service.kill(signal.SIGHUP)
    service.ready(2)
    service.wait_gone(old)
    assert "main.py" in service.log, "the log says what held it"
    [new] = wait_workers(service, 1)
    assert new != old
    # Its own shutdown would block the stop of this test.
    service.kill(signal.SIGQUIT)
    assert service.wait_exit() == 0


def test_ttin_and_ttou_change_the_number_of_workers(serve: Serve) -> None:
    service = serve(LIFE, conf=HOOKS)
    [first] = service.workers()
    service.kill(signal.SIGTTIN)
    service.ready(2)
    service.kill(signal.SIGTTIN)
    service.ready(3)
    assert first in wait_workers(service, 3)

    service.kill(signal.SIGTTOU)
    remaining = wait_workers(service, 2)
    assert service.said("worker_exit") == [first], "the oldest leaves first"
    service.kill(signal.SIGTTOU)
    assert wait_workers(service, 1) < remaining
    service.kill(signal.SIGTTOU)  # at least one stays
    service.wait_log("Handling signal: ttou", 3)
    assert service.get().text == str(service.workers()[0])
    assert "ERROR" not in service.log
    assert "was sent" not in service.log


def test_ttou_lets_requests_finish(serve: Serve, tmp_path: Path) -> None:
    hold = tmp_path / "hold-request"
    hold.touch()
    service = serve(LIFE, "-w", "2", wait=2)
    requests = [service.begin() for _ in range(8)]
    busy = set(service.wait_said("request", len(requests)))
    service.kill(signal.SIGTTOU)
    service.wait_log("Handling signal: ttou")
    hold.unlink()
    answers = {int(request.getresponse().read()) for request in requests}
    assert answers == busy
    wait_workers(service, 1)


def test_signals_that_are_the_arbiters_do_not_harm_a_worker(serve: Serve) -> None:
    """As `pkill -TTIN gunicorn` sends them; a resized terminal sends WINCH to all."""
    service = serve(LIFE)
    [worker] = service.workers()
    for signum in (
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGWINCH,
        signal.SIGCHLD,
    ):
        service.kill(signum, worker)
        assert service.get().text == str(worker)
    assert service.workers() == [worker]
