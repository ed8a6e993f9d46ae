"""Subclasses that wrap or replace `_serve` and `run`, and what runs beside them."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.tools.apps import LIFE
from tests.tools.service import wait_for

from .conftest import Check, Migrate
from .subclasses import (
    BESIDE,
    MONITORS,
    OWN_SERVERS,
    OWN_TASKS,
    ROOT_PATH,
)


@pytest.mark.parametrize("subclass", OWN_SERVERS.values(), ids=OWN_SERVERS)
def test_a_server_of_its_own_works_and_what_it_gives_up_is_said(
    migrate: Migrate, check: Check, subclass: str
) -> None:
    service = migrate(subclass, "--access-logfile", "-")
    assert "server" not in service.get("/seen").headers
    wait_for(lambda: "GET /seen" in service.out, "uvicorn's access line")
    service.wait_log(
        "runs a server of its own, .* Without effect are: the hand-over", 1
    )
    service.kill(signal.SIGHUP)
    service.ready(2)
    wait_for(lambda: len(service.workers()) == 1, "the old worker gone")
    assert service.get().text == "Hello, world!"
    assert service.stop() == 0
    assert "Traceback" not in service.log
    done = check(subclass)
    assert done.returncode == 0, done
    assert "runs a server of its own" in done.stdout


@pytest.mark.parametrize("method", ["def run", "async def _serve", "def load_wsgi"])
def test_an_app_that_a_subclass_wraps_is_served(migrate: Migrate, method: str) -> None:
    name = method.rsplit(maxsplit=1)[-1]
    wrap = "self.wsgi = wrapped(self.wsgi)"
    call = f"{'await ' * ('async' in method)}super().{name}()"
    first, second = (call, wrap) if name == "load_wsgi" else (wrap, call)
    service = migrate(
        f"""
def wrapped(app):
    async def outer(scope, receive, send):
        await app({{**scope, "root_path": "/wrapped"}}, receive, send)
    return outer
class Mine(UvicornWorker):
    {method}(self):
        {first}
        {second}
""",
        source=ROOT_PATH,
    )
    assert service.get().text == "/wrapped"


def test_around_serve_drains_and_its_own_code_runs_after(
    migrate: Migrate, tmp_path: Path
) -> None:
    hold = tmp_path / "hold-request"
    hold.touch()
    around = """
class Mine(UvicornWorker):
    async def _serve(self):
        say("before")
        try:
            await super()._serve()
        finally:
            say("after")
"""
    service = migrate(around, source=LIFE)
    client = service.begin()
    service.wait_said("request")
    service.kill(signal.SIGTERM)
    wait_for(service.refuses, "the listener closed")
    hold.unlink()
    assert client.getresponse().status == 200
    assert service.wait_exit() == 0
    [pid] = service.said("before")
    assert service.said("closed") == service.said("after") == [pid]
    assert "Given up" not in service.log


@pytest.mark.parametrize("subclass", OWN_TASKS.values(), ids=OWN_TASKS)
def test_a_task_of_the_subclass_that_serves_ends_by_itself(
    migrate: Migrate, subclass: str
) -> None:
    service = migrate(subclass, source=LIFE)
    service.kill(signal.SIGTERM)
    assert service.wait_exit() == 0
    assert service.said("closed") == service.said("after")
    assert "exited with code" not in service.log
    assert "Given up" not in service.log


def beside(body: str, run: str = "") -> str:
    serve = f"\n    async def _serve(self):\n        {body.strip()}\n"
    return f"{MONITORS}class Mine(UvicornWorker):{run}{serve}"


OWN_RUN = "\n    def run(self):\n        asyncio.run(self._serve())"


@pytest.mark.parametrize("run", ["", OWN_RUN], ids=["", "asyncio.run"])
@pytest.mark.parametrize("body", BESIDE.values(), ids=BESIDE)
def test_a_task_beside_the_workers_ends_with_it(
    migrate: Migrate, body: str, run: str
) -> None:
    if "TaskGroup" in body and sys.version_info < (3, 11):
        pytest.skip("Python 3.10 has no task groups")
    service = migrate(beside(body, run), source=LIFE)
    service.kill(signal.SIGTERM)
    assert service.wait_exit() == 0
    assert len(service.said("closed")) == len(service.said("monitor ended")) == 1
    for trouble in "Traceback", "exited with code", "Given up", "never", "destroyed":
        assert trouble not in service.log, service.log


ENDS = {
    "fails": "await asyncio.gather(super()._serve(), monitor())",
    "is done first": """
        tasks = [asyncio.ensure_future(each) for each in (super()._serve(), monitor())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        tasks[0].cancel()
""",
}


@pytest.mark.parametrize("body", ENDS.values(), ids=ENDS)
def test_a_worker_drains_if_a_task_beside_it_ends_it(
    migrate: Migrate, tmp_path: Path, body: str
) -> None:
    monitor = """
async def monitor():
    while not os.path.exists("end"):
        await asyncio.sleep(0.02)
    os.unlink("end")
    say("ends")
    raise ValueError("the monitor")
"""
    (tmp_path / "hold-request").touch()
    service = migrate(monitor + beside(body), source=LIFE)
    client = service.begin()
    service.wait_said("request")
    (tmp_path / "end").touch()
    service.wait_said("ends")
    (tmp_path / "hold-request").unlink()
    assert client.getresponse().status == 200
    service.ready(2)
    assert service.said("closed")
