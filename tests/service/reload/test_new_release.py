"""Reloads with code that starts slowly or not at all: the promises of the hand-over."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.tools.load import ECHO, Load
from tests.tools.service import Service, wait_for

from .test_zero_loss import hup, settled

# `ECHO`, whose start takes as many seconds as the file `delay` says, and which is not
# quick to give it up either.
STARTS_SLOWLY = (
    ECHO.replace("async def app", "async def echo")
    + """
import asyncio, pathlib, time

async def app(scope, receive, send):
    if scope["type"] == "http":
        return await echo(scope, receive, send)
    await receive()
    print("starting", flush=True)
    try:
        await asyncio.sleep(float(pathlib.Path("delay").read_text()))
    except asyncio.CancelledError:
        time.sleep(0.5)
        raise
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
"""
)

BROKEN = {
    "SyntaxError": "async def app(:",
    "ModuleNotFoundError: No module named 'not_there'": "import not_there",
    "the database is down": """
async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the database is down"})
""",
    "boot_timeout, 4 s": "import time; time.sleep(600)",
}


@pytest.fixture
def start(serve: Serve, tmp_path: Path):
    def start(*args: str, **kwargs: object) -> Service:
        (tmp_path / "delay").write_text("0")
        return serve(STARTS_SLOWLY, "-w", "2", *args, wait=2, **kwargs)

    return start


def test_no_request_waits_for_a_start_of_four_seconds(start, tmp_path: Path) -> None:
    service = start("--graceful-timeout", "10")
    with Load(("127.0.0.1", service.port), pause=0.01) as load:
        (tmp_path / "delay").write_text("4")
        told = time.monotonic()
        hup(service, 2)
        over = time.monotonic()
        load.answer(20)
    assert load.failures == []
    assert over - told > 4
    assert (
        load.slowest(told, over) < 2
    )  # who waits for the start waits nearly all of it


def test_a_start_longer_than_graceful_timeout_is_waited_for(
    start, tmp_path: Path
) -> None:
    service = start("--graceful-timeout", "2")
    (tmp_path / "delay").write_text("4")
    with Load(("127.0.0.1", service.port), pause=0.01) as load:
        hup(service, 2)
        load.answer(20)
    assert load.failures == []


@pytest.mark.parametrize("cause", BROKEN)
def test_a_broken_release_takes_nothing_down(start, tmp_path: Path, cause: str) -> None:
    env = {"UVWORKER_BOOT_TIMEOUT": "4"}  # time enough for a good one, in a crowd
    service = start("--graceful-timeout", "2", env=env)
    old = set(service.workers())
    main = tmp_path / "main.py"
    with Load(("127.0.0.1", service.port), pause=0.01) as load:
        main.write_text(BROKEN[cause])
        service.kill(signal.SIGHUP)
        service.wait_log(r"Worker \d cannot start: ", 2)
        service.wait_log(r"A worker that was to take over died", 2)
        assert cause in service.log
        wait_for(lambda: set(service.workers()) == old, "the old workers alone")
        load.answer(20)
        main.write_text(STARTS_SLOWLY + f"# {cause}")
        service.kill(signal.SIGHUP)
        settled(service, old, 2)
        load.answer(20)
    assert load.failures == []


def test_a_stop_in_the_middle_of_a_hand_over_ends_all(start, tmp_path: Path) -> None:
    service = start("--graceful-timeout", "5")
    (tmp_path / "delay").write_text("600")
    service.kill(signal.SIGHUP)
    wait_for(lambda: service.out.count("starting") == 4, "two new workers starting")
    with Load(("127.0.0.1", service.port)) as load:
        told = time.monotonic()
        service.kill(signal.SIGTERM)
        load.wait_refused()
    assert service.wait_exit() == 0
    # gunicorn 27 looks at no signal in the graceful_timeout after a HUP, and has the
    # same again from then on; nothing of that second one is needed.
    assert time.monotonic() - told < 2 * 5
    assert "SIGKILL" not in service.log
    assert load.lost_in_a_stop == []
