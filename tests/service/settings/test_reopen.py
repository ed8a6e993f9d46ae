"""USR1: the log files of all processes are reopened, with every line in one of them."""

from __future__ import annotations

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.conftest import Serve
from tests.tools.apps import IMPORTED
from tests.tools.service import PATIENCE, Service, alive, open_files, wait_for

# Logs the number that it was asked with, as apps do that log through gunicorn.
NUMBERED = """
import logging
logger = logging.getLogger("gunicorn.error")

async def app(scope, receive, send):
    assert scope["type"] == "http"
    logger.info("number %s.", scope["query_string"].decode())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"""

CLIENTS = 4
ROTATIONS = 3


def files_of(service: Service, name: str) -> set[tuple[int, str]]:
    """Return which log file each process of the service has open."""
    return {
        (pid, path)
        for pid in (service.pid, *service.workers())
        for path in open_files(pid).values()
        if name in path
    }


def rotate(service: Service, log: Path, number: int) -> None:
    """Rename the log as ``logrotate`` does, and wait until no process writes there."""
    rotated = log.rename(log.with_name(f"{log.name}.{number}"))
    service.kill(signal.SIGUSR1)
    wait_for(
        lambda: {path for _, path in files_of(service, log.name)} == {str(log)},
        f"nobody has {rotated.name} open",
    )


def test_usr1_reopens_log_files_under_load_without_losing_or_repeating_a_line(
    serve: Serve, tmp_path: Path
) -> None:
    log = tmp_path / "app.log"
    service = serve(NUMBERED, "-w", "2", "--error-logfile", str(log), wait=0)
    wait_for(log.exists, "a log file")
    service.log_path = log
    service.ready(2)
    url, workers = service.url, service.workers()
    rotating = [True]

    def ask(client_number: int) -> list[str]:
        asked = []
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            while rotating or len(asked) < 10:
                asked.append(f"{client_number}-{len(asked)}")
                assert client.get(f"/?{asked[-1]}").text == "ok"
        return asked

    with ThreadPoolExecutor(CLIENTS) as clients:
        asking = [clients.submit(ask, number) for number in range(CLIENTS)]
        try:
            for number in range(ROTATIONS):
                rotate(service, log, number)
        finally:
            rotating.clear()
    asked = [number for client in asking for number in client.result()]

    logs = sorted(tmp_path.glob("app.log*"))
    assert len(logs) == ROTATIONS + 1
    lines = "".join(path.read_text() for path in logs)
    assert sorted(re.findall(r"number ([\d-]+)\.$", lines, re.MULTILINE)) == sorted(
        asked
    )
    assert service.workers() == workers
    assert all(map(alive, workers))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can change the user")
def test_a_worker_that_may_not_open_the_new_files_continues_with_the_old(
    serve: Serve, tmp_path: Path
) -> None:
    """Here nobody may read the directory; or the arbiter has made the file as root."""
    errors, access = tmp_path / "errors.log", tmp_path / "access.log"
    files = "--error-logfile", str(errors), "--access-logfile", str(access)
    # Preloaded, because only root may read the test's directory, too.
    user = "--preload", "--user", "nobody"
    service = serve(IMPORTED + NUMBERED, *files, *user, wait=0)
    wait_for(errors.exists, "a log file")
    service.log_path = errors
    service.ready(1)
    url = service.url
    service.log_path = errors.rename(tmp_path / "errors.old")
    old_access = access.rename(tmp_path / "access.old")
    service.kill(signal.SIGUSR1)
    said, *_ = service.wait_log(r"\[ERROR\] The log files cannot be reopened.*")
    assert f"Permission denied: '{errors}" in said[0]
    assert httpx.get(f"{url}/?1").text == "ok"
    service.wait_log(r"number 1\.")
    wait_for(lambda: "?1" in old_access.read_text(), "an access line")

    # Its successor inherits the files that the arbiter has opened anew.
    service.log_path = errors
    [worker] = service.workers()
    service.kill(signal.SIGTERM, worker)
    service.wait_gone(worker)
    service.ready(1)
    assert httpx.get(f"{url}/?2").text == "ok"
    service.wait_log(r"number 2\.")
    wait_for(lambda: "?2" in access.read_text(), "an access line")
