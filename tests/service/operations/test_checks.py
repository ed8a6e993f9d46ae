"""The app's own checks, and what else is wrong with a worker: who is told, and what."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.service.operations.conftest import Operate
from tests.tools.apps import SAY
from tests.tools.service import PATIENCE, wait_for
from uvworker import health

CHECKED = (
    SAY
    + """
import asyncio, os, sys, time
from pathlib import Path
from uvworker import health

async def database():
    say("asked")
    if Path("broken").exists():
        exec(Path("broken").read_text())
    while Path("hold-check").exists():
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            if not Path("ignore").exists():
                raise

def add():
    health.add_check("database", database, timeout=0.5, period=PERIOD)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if LATE:
            add()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"Hello, world!"})

if not LATE:
    add()
"""
)


def checked(*, period: float = 0.1, late: bool = False) -> str:
    return CHECKED.replace("PERIOD", str(period)).replace("LATE", str(late))


def command(name: str, address: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "uvworker", name, address]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=3 * PATIENCE
    )


FAILS = "worker 0 is unhealthy: the check 'database' fails: {}\n"


@pytest.mark.parametrize(
    ("code", "why", "late"),
    [
        ("raise OSError('refused')", "OSError('refused')", False),
        ("sys.exit(3)", "SystemExit(3)", True),
        ("raise asyncio.CancelledError", "CancelledError()", False),
    ],
)
def test_a_failing_check_makes_its_worker_unready_and_says_why(
    operate: Operate, tmp_path: Path, code: str, why: str, late: bool
) -> None:
    operated = operate(checked(late=late))
    assert operated.asked("/readyz") == 200
    (tmp_path / "broken").write_text(code)
    assert operated.wait("/readyz", 503).text == FAILS.format(why)
    assert operated.ask("/healthz").text == FAILS.format(why)
    [worker] = operated.ask("/status.json").json()["workers"]
    assert worker["healthy"] is False
    assert worker["problems"] == [f"the check 'database' fails: {why}"]
    shown = command("status", operated.url.removeprefix("http://"))
    assert shown.returncode == 1
    assert "unhealthy" in shown.stdout
    assert f"worker 0 the check 'database' fails: {why}\n" in shown.stdout
    assert operated.asked("/livez") == 200
    assert operated.service.get().status_code == 200
    (tmp_path / "broken").unlink()
    operated.wait("/readyz", 200)
    operated.service.wait_log("The check 'database' is well again")


@pytest.mark.parametrize("ignores", [False, True])
def test_a_check_that_hangs_fails_and_does_not_outlive_a_drain(
    operate: Operate, tmp_path: Path, ignores: bool
) -> None:
    operated = operate(checked())
    if ignores:
        (tmp_path / "ignore").touch()
    (tmp_path / "hold-check").touch()
    unready = operated.wait("/readyz", 503).text
    assert unready == FAILS.format("no answer in 0.5 s")
    assert operated.service.get().status_code == 200
    assert operated.service.stop() == 0
    assert "Task was destroyed" not in operated.service.log
    assert "Traceback" not in operated.service.log


def test_a_probe_runs_no_check(operate: Operate) -> None:
    operated = operate(checked(period=1000))
    assert {operated.asked("/readyz") for _ in range(20)} == {200}
    assert len(operated.service.said("asked")) == 1


def test_a_worker_whose_check_fails_from_the_start_is_never_ready(
    operate: Operate, tmp_path: Path
) -> None:
    (tmp_path / "broken").write_text("raise OSError")
    assert operate(checked()).ask("/readyz").text == FAILS.format("OSError()")


def test_a_service_is_ready_while_the_check_of_one_worker_passes(
    operate: Operate, tmp_path: Path
) -> None:
    (tmp_path / "broken").write_text("assert os.environ['UVWORKER_ID'] == '1'")
    operated = operate(checked(), "-w", "2", wait=2)
    said = operated.wait("/readyz?verbose", 200).json()
    assert said["status"] == "ok"
    assert said["problems"] == ["worker 0 the check 'database' fails: AssertionError()"]


def test_the_path_on_the_apps_port_follows_the_checks(
    serve: Serve, tmp_path: Path
) -> None:
    service = serve(checked(), env={"UVWORKER_READY_PATH": "/ready"})
    assert service.get("/ready").status_code == 200
    (tmp_path / "broken").write_text("raise OSError")
    wait_for(lambda: service.get("/ready").status_code == 503, "it is not ready")
    assert service.get("/ready").text == FAILS.format("OSError()")


def test_checks_are_not_run_where_nobody_can_ask(serve: Serve) -> None:
    service = serve(checked())
    assert service.get().status_code == 200
    assert service.stop() == 0
    assert service.said("asked") == []


@pytest.mark.parametrize(
    ("add", "error"),
    [
        (lambda: health.add_check("a", None), TypeError),  # type: ignore[arg-type]
        (lambda: health.add_check("a", _well, timeout=0), ValueError),
        (lambda: health.add_check("a", _well, period=-1), ValueError),
    ],
)
def test_a_check_that_could_not_run_is_refused(
    add: Callable[[], None], error: type[Exception]
) -> None:
    with pytest.raises(error, match="the check 'a' "):
        add()


async def _well() -> None: ...


ENDS = """
import asyncio
from pathlib import Path

async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.complete"})
    while not Path("end").exists():
        await asyncio.sleep(0.02)
"""


def test_a_lifespan_that_has_ended_is_shown(operate: Operate, tmp_path: Path) -> None:
    operated = operate(ENDS)
    (tmp_path / "end").touch()
    problem = (
        "worker 0 application lifespan ended; the worker serves without it: "
        "the app returned"
    )
    wait_for(
        lambda: operated.ask("/readyz?verbose").json()["problems"] == [problem],
        "the end of the lifespan is shown",
    )
    assert operated.asked("/readyz") == 200


# It never shuts down by itself: a worker that recycles keeps the others waiting.
STAYS = """
import asyncio

async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await asyncio.Event().wait()
"""


def test_a_worker_that_waits_to_be_recycled_is_shown(operate: Operate) -> None:
    operated = operate(STAYS, "-w", "3", wait=3, UVWORKER_MAX_LIFETIME="2")
    waits = r"worker \d waits for its turn to be recycled: \d+ s old, max_lifetime 2 s"
    wait_for(
        lambda: re.search(waits, operated.ask("/readyz?verbose").text),
        "a worker that waits is shown",
    )
    operated.service.stop(signal.SIGQUIT)


def test_a_boot_that_fails_again_and_again_is_shown(
    operate: Operate, tmp_path: Path
) -> None:
    operated = operate(checked(), "-w", "2", wait=2)
    source = (tmp_path / "main.py").read_text()
    (tmp_path / "main.py").write_text("raise RuntimeError('no such table')")
    killed = operated.service.workers()[0]
    operated.service.kill(signal.SIGKILL, killed)

    def troubled() -> list[tuple[int, list[str]]]:
        workers = operated.ask("/status.json").json()["workers"]
        return [(w["failed_boots"], w["problems"]) for w in workers if w["problems"]]

    why = ["cannot start: RuntimeError('no such table')"]
    wait_for(lambda: troubled() == [(2, why)], "the second failure is shown")
    assert operated.asked("/readyz") == 200
    (tmp_path / "main.py").write_text(source)
    wait_for(lambda: not troubled(), "the worker serves, and the problem is gone")


def test_a_reload_can_be_awaited_and_its_outcome_is_shown(
    operate: Operate, tmp_path: Path
) -> None:
    operated = operate(checked(), "--graceful-timeout", "1")
    address = operated.url.removeprefix("http://")

    def newest() -> tuple[object, ...]:
        shown = operated.ask("/status.json").json()["generation"]
        return shown["number"], shown["state"]

    assert newest() == (1, "serving")
    reloaded = command("reload", address)
    assert (reloaded.returncode, reloaded.stdout) == (
        0,
        "Reloaded: 1 new workers serve.\n",
    )
    assert newest() == (2, "serving")
    (tmp_path / "main.py").write_text("raise RuntimeError('no such table')")
    reloaded = command("reload", address)
    assert reloaded.returncode == 1
    assert " cannot start: RuntimeError('no such table')\n" in reloaded.stderr
    assert newest() == (3, "failed")
    assert ", FAILED\n" in command("status", address).stdout
