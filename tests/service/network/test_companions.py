"""What comes with gunicorn beside the workers: dirty apps and the control socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.tools.apps import SLOW_IMPORT
from tests.tools.service import PATIENCE, gunicorn_lacks, wait_for

DIRTY = """
from gunicorn.dirty.app import DirtyApp

class Calculator(DirtyApp):
    def double(self, number):
        return 2 * number

    def count(self, end):
        yield from range(end)
"""

APP = """
import json, os

async def app(scope, receive, send):
    assert scope["type"] == "http"
    from gunicorn.dirty.client import get_dirty_client_async
    client = await get_dirty_client_async()
    doubled = await client.execute_async("work:Calculator", "double", 21)
    counted = [n async for n in client.stream_async("work:Calculator", "count", 3)]
    result = json.dumps([doubled, counted, os.getpid()]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": result})
"""


@gunicorn_lacks("dirty_workers")
@pytest.mark.parametrize(
    "worker", ["uvworker.Worker", "uvworker.H11Worker"], ids=["uvloop", "asyncio"]
)
def test_the_app_calls_a_dirty_app(serve: Serve, tmp_path: Path, worker: str) -> None:
    (tmp_path / "work.py").write_text(DIRTY)
    # By a name of its own: the dirty arbiter of another test would be taken for one
    # left behind by an arbiter of the same name, and killed.
    name = f"uvworker-test-{os.getpid()}"
    dirty = "--dirty-app", "work:Calculator", "--dirty-workers", "1"
    # From Python 3.12 on, the dirty arbiter does not stop by itself, under any worker.
    stop = "--graceful-timeout", "2"
    service = serve(APP, "--name", name, *dirty, *stop, worker=worker)
    service.wait_log(r"Dirty worker \d+ listening")
    doubled, counted, pid = service.get().json()
    assert (doubled, counted) == (42, [0, 1, 2])
    assert pid in service.workers()
    assert service.stop() == 0
    wait_for(lambda: not service.session(), "the dirty worker gone")
    assert "[ERROR]" not in service.log


@gunicorn_lacks("control_socket")
def test_gunicornc_shows_and_changes_the_workers(serve: Serve, tmp_path: Path) -> None:
    control = tmp_path / "control"
    conf = f"control_socket_disable = False; control_socket = {str(control)!r}"
    service = serve(conf=conf)
    wait_for(control.exists, "a control socket")
    shown = ask(control, "show workers")
    assert [worker["pid"] for worker in shown["workers"]] == service.workers()
    ask(control, "worker add 1")
    service.ready(2)
    assert ask(control, "show stats")["workers_current"] == 2
    ask(control, "reload")
    service.ready(3)  # one more, and as many as the configuration says
    ask(control, "shutdown graceful")
    assert service.wait_exit() == 0


@gunicorn_lacks("control_socket")
def test_gunicornc_tells_which_workers_have_started(
    serve: Serve, tmp_path: Path
) -> None:
    """And gives no figure for the last beat of one that has not beaten yet."""
    control = tmp_path / "control"
    conf = f"control_socket_disable = False; control_socket = {str(control)!r}"
    for place in "import", "startup":
        (tmp_path / f"hold-{place}").touch()
    service = serve(SLOW_IMPORT, conf=conf, wait=0)
    wait_for(control.exists, "a control socket")

    def shown() -> tuple[bool, bool]:
        [worker] = ask(control, "show workers")["workers"]
        return worker["booted"], worker["last_heartbeat"] is not None

    service.wait_said("import")
    assert shown() == (False, False)
    (tmp_path / "hold-import").unlink()
    service.wait_said("startup")
    assert shown() == (False, True)
    (tmp_path / "hold-startup").unlink()
    service.ready()
    wait_for(lambda: shown() == (True, True), "a worker that has started")


def ask(control: Path, command: str) -> Any:
    gunicornc = Path(sys.executable).with_name("gunicornc")
    answer = subprocess.run(
        [gunicornc, "-s", control, "-j", "-c", command],
        stdout=subprocess.PIPE,
        timeout=PATIENCE,
        check=True,
    )
    return json.loads(answer.stdout)
