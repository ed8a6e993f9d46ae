"""A worker that dies, and one that cannot come back: its siblings serve on."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from tests.conftest import Serve
from tests.tools.load import ECHO, Load
from tests.tools.service import wait_for

NEEDS_DATABASE = (
    ECHO.replace("async def app", "async def echo")
    + """
import pathlib

async def app(scope, receive, send):
    if scope["type"] == "http":
        return await echo(scope, receive, send)
    await receive()
    if not pathlib.Path("database").exists():
        raise RuntimeError("the database is down")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
"""
)


def test_a_killed_worker_loses_what_was_in_flight_on_it_and_is_replaced(
    serve: Serve,
) -> None:
    service = serve(ECHO, "-w", "2", wait=2)
    victim, sibling = service.workers()
    with Load(("127.0.0.1", service.port), keep_alive=6, one_shot=0) as load:
        service.kill(signal.SIGKILL, victim)
        service.ready(3)
        wait_for(lambda: load.answered > 1000, "1000 answers")
    assert len(load.failures) <= 6  # one request of each client
    assert sibling in service.workers()
    assert {each.pid for each in load.exchanges} - {0} <= {
        victim,
        sibling,
        *service.workers(),
    }


def test_siblings_serve_while_a_worker_cannot_come_back(
    serve: Serve, tmp_path: Path
) -> None:
    database = tmp_path / "database"
    database.touch()
    service = serve(NEEDS_DATABASE, "-w", "3", wait=3)
    victim, *siblings = service.workers()
    database.unlink()
    service.kill(signal.SIGKILL, victim)
    service.wait_gone(victim)
    with Load(("127.0.0.1", service.port), pause=0.01) as load:
        service.wait_log("the next attempt is in 2 s")
        assert set(siblings) <= set(service.workers())
        database.touch()
        service.ready(4)
        load.answer(20)
    assert load.failures == []
    assert len(service.workers()) == 3
    pauses = re.findall(r"next attempt is in (\d+) s", service.log)
    assert pauses[:2] == ["1", "2"]
    causes = re.findall(r"Worker 0 cannot start: .*the database is down", service.log)
    assert len(causes) == len(pauses)
