"""Recycling by memory and by age: a reason with figures, and one worker at a time."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import Serve
from tests.tools.load import ECHO, Load
from tests.tools.service import READY, Service, wait_for

RECYCLING = r"Recycling worker \d+: "

# `ECHO`, that holds as many more megabytes as the file `leak` says.
LEAKS = (
    ECHO.replace("async def app", "async def echo")
    + """
import pathlib

leaked = []

async def app(scope, receive, send):
    await echo(scope, receive, send)
    leak = pathlib.Path("leak")
    if leak.exists() and not leaked:
        leaked.append(b"x" * (int(leak.read_text()) << 20))
"""
)

FROZEN = """
import gc

async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % gc.get_freeze_count()})
"""


def resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s*(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def most_away(log: str, workers: int) -> int:
    """Return how many workers were being replaced at a time, at most."""
    away = most = 0
    for event in re.findall(f"Recycling worker|{READY}", log)[workers:]:
        away += 1 if event.startswith("Recycling") else -1
        most = max(most, away)
    return most


def test_a_worker_that_leaks_is_replaced_and_says_by_how_much(
    serve: Serve, tmp_path: Path
) -> None:
    env = {"UVWORKER_MAX_RSS": "300M"}
    service = serve(LEAKS, "-w", "2", wait=2, env=env)
    old = service.workers()
    with Load(("127.0.0.1", service.port), pause=0.01) as load:
        (tmp_path / "leak").write_text("350")
        service.wait_log(RECYCLING + r"[34]\d\d MB resident, max_rss 300 MB\.", 1)
        (tmp_path / "leak").unlink()
        wait_for(lambda: set(old) != set(service.workers()), "a worker replaced")
        service.ready(3)
        load.answer(20)
    assert load.failures == []


def test_an_old_worker_is_replaced_and_says_its_age(serve: Serve) -> None:
    env = {"UVWORKER_MAX_LIFETIME": "1"}
    service = serve(ECHO, wait=1, env=env)
    with Load(("127.0.0.1", service.port), pause=0.01) as load:
        service.wait_log(RECYCLING + r"\d s old, max_lifetime 1 s\.", 2)
        service.ready(3)
        load.answer(20)
    assert load.failures == []


def test_siblings_take_turns(serve: Serve) -> None:
    """All are due all the time, and none so much that it could not wait."""
    workers = 4
    probe = serve(ECHO)
    limit = int(resident(probe.workers()[0]) * 0.75)
    assert probe.stop() == 0
    probe.log_path.unlink()  # the next service begins its own
    env = {"UVWORKER_MAX_RSS": str(limit)}
    service = serve(ECHO, "-w", str(workers), wait=workers, env=env)
    with Load(("127.0.0.1", service.port), pause=0.01) as load:
        service.wait_log(RECYCLING, workers + 2)
        service.ready(2 * workers + 2)
    assert load.failures == []
    assert most_away(service.log, workers) == 1


def frozen(service: Service) -> int:
    return int(service.get().text)


def test_a_preloaded_app_is_frozen_where_that_is_asked_for(serve: Serve) -> None:
    env = {"UVWORKER_GC_FREEZE": "true"}
    assert frozen(serve(FROZEN, "--preload", env=env)) > 1000


def test_without_a_preloaded_app_what_the_arbiter_loaded_is_frozen(
    serve: Serve,
) -> None:
    assert frozen(serve(FROZEN)) > 1000


def test_a_preloaded_app_is_not_frozen_unasked(serve: Serve) -> None:
    assert frozen(serve(FROZEN, "--preload")) < 1000  # 3.12 and later: a few always
