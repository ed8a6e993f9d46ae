"""What a real systemd makes of the messages: starts, reloads, hangs and upgrades."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.tools.service import wait_for

from .machines import Machine, machine

UNIT = "notify.service"
PYTHON = "/opt/app/venv/bin/python"
GUNICORN = "/opt/app/venv/bin/gunicorn -k uvworker.Worker -w 2 -b 127.0.0.1:8100"

# Imports slowly, and blocks its loop at a path.
APP = """
import time
time.sleep({slow})

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/hang":
        time.sleep(600)
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"Hello, world!"}})
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Return a machine with a systemd that has ``Type=notify-reload``."""
    directory = tmp_path_factory.mktemp("notify")
    with machine("trixie", "uvt-notify", directory) as host:
        yield host


@contextmanager
def unit(host: Machine, *lines: str, more: str = "", app: str = "") -> Iterator[None]:
    """Write the unit and its app, not started; stop it afterwards."""
    host.write("opt/notify/main.py", app or APP.format(slow=0))
    service = (
        "Type=notify-reload",
        "WorkingDirectory=/opt/notify",
        f"ExecStart={GUNICORN} --no-control-socket {more} main:app",
        *lines,
    )
    host.write(f"etc/systemd/system/{UNIT}", "\n".join(("[Service]", *service, "")))
    host.do("systemctl", "daemon-reload")
    yield
    host.inside("systemctl", "stop", UNIT)
    host.inside("systemctl", "reset-failed", UNIT)


def show(host: Machine, name: str) -> str:
    return host.property(UNIT, name)


def workers(host: Machine) -> set[str]:
    return set(host.inside("pgrep", "-P", show(host, "MainPID")).stdout.split())


def test_a_start_returns_when_the_workers_serve(host: Machine) -> None:
    """Also if that takes longer than TimeoutStartSec."""
    with unit(host, "TimeoutStartSec=2", app=APP.format(slow=6)):
        host.do("systemctl", "start", UNIT)
        assert show(host, "StatusText").startswith("2 of 2 workers serve; ")


def test_a_start_of_what_cannot_be_imported_fails(host: Machine) -> None:
    with unit(host, app="import nothing_of_this_name"):
        assert host.inside("systemctl", "start", UNIT).returncode != 0


def test_a_reload_returns_when_the_new_workers_serve(host: Machine) -> None:
    with unit(host, more="--graceful-timeout 2"):
        host.do("systemctl", "start", UNIT)
        old = workers(host)
        host.write("opt/notify/main.py", APP.format(slow=3))
        host.do("systemctl", "reload", UNIT)
        assert len(workers(host) - old) == 2
        host.write("opt/notify/main.py", "import nothing_of_this_name")
        new = workers(host) - old
        host.do("systemctl", "reload", UNIT)
        assert show(host, "StatusText").startswith("The last reload failed, ")
        assert new <= workers(host)
        host.write("opt/notify/main.py", APP.format(slow=0))
        host.do("systemctl", "reload", UNIT)
        assert len(workers(host) - new) >= 2


def test_a_reload_that_is_awaited_fails_with_the_new_workers(host: Machine) -> None:
    awaited = (
        "Type=notify",
        "RuntimeDirectory=notify",
        "Environment=UVWORKER_OPS_BIND=unix:/run/notify/ops.sock",
        f"ExecReload={PYTHON} -m uvworker reload",
    )
    with unit(host, *awaited, more="--graceful-timeout 2"):
        host.do("systemctl", "start", UNIT)
        old = workers(host)
        host.do("systemctl", "reload", UNIT)
        assert len(workers(host) - old) == 2
        host.write("opt/notify/main.py", "import nothing_of_this_name")
        assert host.inside("systemctl", "reload", UNIT).returncode != 0
        assert show(host, "ActiveState") == "active"


def test_the_watchdog_ends_a_service_whose_loops_all_hang_and_no_other(
    host: Machine,
) -> None:
    with unit(host, "WatchdogSec=4", more="--timeout 0"):
        host.do("systemctl", "start", UNIT)
        signs: set[str] = set()

        def signed() -> bool:
            signs.add(show(host, "WatchdogTimestampMonotonic"))
            return len(signs) >= 6

        wait_for(signed, "six signs, in more than the period of the watchdog")
        assert show(host, "ActiveState") == "active"
        for _ in range(2):
            url = "http://127.0.0.1:8100/hang"
            request = f"import urllib.request as r; r.urlopen('{url}', timeout=2)"
            host.inside(PYTHON, "-c", request)
        wait_for(lambda: show(host, "Result") == "watchdog", "it is killed")


def test_an_upgrade_keeps_the_unit_alive(host: Machine) -> None:
    with unit(host):
        host.do("systemctl", "start", UNIT)
        old, pids = show(host, "MainPID"), workers(host)
        host.do("kill", "-USR2", old)
        wait_for(lambda: len(workers(host) - pids) == 1, "another arbiter")
        [new] = workers(host) - pids
        children = ("pgrep", "-P", new)
        wait_for(lambda: len(host.inside(*children).stdout.split()) == 2, "its workers")
        host.do("kill", "-TERM", old)
        wait_for(lambda: show(host, "MainPID") == new, "it is the main process")
        wait_for(lambda: host.inside("kill", "-0", old).returncode != 0, "the old ends")
        wait_for(
            lambda: show(host, "StatusText").startswith("2 of 2 workers serve; "),
            "the new one speaks",
        )
        assert show(host, "ActiveState") == "active"
