"""The units of ``conf/systemd``, in a real systemd, with gunicorn under real load."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.tools.load import ECHO, Load
from tests.tools.service import wait_for

from .machines import CGROUPS, Machine, machine
from .shipped import CONF

UNITS = (
    "uvworker.socket",
    "uvworker.service",
    "uvworker.service.d/hardening.conf",
)

# The worst score that the hardening may have; it has 1.2.
EXPOSURE = 1.5

PYTHON = "/opt/app/venv/bin/python"
ADDRESS = ("127.0.0.1", 8000)

# Answers as ECHO does, but for a path that blocks the loop of the worker, and another
# that takes more memory than there is.
MEMORY = 512 << 20
APP = f"""
import time

async def app(scope, receive, send):
    if scope.get("path") == "/hang":
        time.sleep(600)
    if scope.get("path") == "/fill":
        b"1" * {2 * MEMORY}
    await echo(scope, receive, send)
""" + ECHO.replace("def app", "def echo")


@pytest.fixture(scope="module", params=["trixie", "bookworm"])
def host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """Return a machine with the app and the units of ``conf/systemd`` enabled."""
    directory = tmp_path_factory.mktemp(request.param)
    with machine(request.param, f"uvt-{request.param}", directory) as host:
        release(host, APP)
        host.write("opt/app/gunicorn.conf.py", (CONF / "gunicorn.conf.py").read_text())
        host.write("etc/uvworker.env", "WEB_CONCURRENCY=2\n")
        for unit in UNITS:
            text = (CONF / "systemd" / unit).read_text()
            host.write(f"etc/systemd/system/{unit}", text)
        host.do("systemctl", "daemon-reload")
        host.do("systemctl", "enable", "--now", "uvworker.socket", "uvworker.service")
        yield host


@pytest.fixture
def load(host: Machine) -> Load:
    return Load(ADDRESS, network=host.network, pause=0.01)


def release(host: Machine, source: str) -> None:
    host.write("opt/app/main.py", source)


def arbiter(host: Machine) -> int:
    """Return the pid of the arbiter, as it is inside of the machine."""
    return int(host.property("uvworker.service", "MainPID"))


def serves(host: Machine) -> bool:
    state = host.property("uvworker.service", "ActiveState")
    return (
        state == "active" and host.property("uvworker.service", "SubState") == "running"
    )


def workers(host: Machine) -> set[str]:
    return set(host.inside("pgrep", "-P", str(arbiter(host))).stdout.split())


def test_units_have_no_fault(host: Machine) -> None:
    units = [f"/etc/systemd/system/{unit}" for unit in UNITS[:2]]
    done = host.inside("systemd-analyze", "verify", *units)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_exposure_is_low(host: Machine) -> None:
    said = host.do("systemd-analyze", "--no-pager", "security", "uvworker.service")
    [score] = re.findall(r"exposure level for uvworker.service: ([\d.]+)", said)
    print(f"exposure {score}")  # noqa: T201
    assert float(score) <= EXPOSURE


def test_the_log_has_no_error(host: Machine) -> None:
    wait_for(lambda: len(workers(host)) == 2, "two workers")
    assert not re.search(r"\[(WARNING|ERROR|CRITICAL)\]", host.journal())


CHECK = f"{PYTHON} -m uvworker check --graceful-timeout 50 -k uvworker.Worker main:app"
CHECKED = f"""
[Service]
Type=oneshot
TimeoutStopSec=49500ms
WorkingDirectory=/opt/app
ExecStart={CHECK}
"""


def test_the_check_knows_when_systemd_kills(host: Machine) -> None:
    """In a unit it asks of its own; the shipped one is given more time to drain."""
    host.write("etc/systemd/system/checked.service", CHECKED)
    host.do("systemctl", "daemon-reload")
    host.do("systemctl", "start", "checked.service")
    said = "graceful_timeout = 50, but the service is killed after 49.5 s"
    assert said in host.journal()
    check = ("env", "--chdir=/opt/app", *CHECK.split())
    assert said in host.do(*check, "--stop-timeout", "checked")
    assert "killed after" not in host.do(*check, "--stop-timeout", "uvworker.service")
    assert "killed after" not in host.do(*check)
    refused = host.inside(*check, "--stop-timeout", "nonsense.service")
    assert refused.returncode == 2


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_no_request_fails(host: Machine, load: Load, how: str) -> None:
    with load:
        for _ in range(3):
            before = workers(host)
            host.do("systemctl", how, "uvworker.service")
            wait_for(
                lambda before=before: (
                    len(workers(host) - before) == 2 and not workers(host) & before
                ),
                "two new workers",
            )
            load.answer(100)
    assert load.failures == []
    print(f"{how}: {load.answered} requests")  # noqa: T201


def test_no_request_fails_when_the_arbiter_is_killed(host: Machine, load: Load) -> None:
    old = arbiter(host)
    with load:
        host.do("kill", "-KILL", str(old))
        wait_for(lambda: serves(host) and arbiter(host) != old, "another arbiter")
        load.answer(100)
    assert load.failures == []


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_a_release_that_cannot_start_is_an_error_of_the_command(
    host: Machine, load: Load, how: str
) -> None:
    """After a reload the old release serves; a restart has stopped it."""
    before = workers(host)
    with load:
        release(host, "import nonsense")
        done = host.inside("systemctl", how, "uvworker.service")
        assert done.returncode != 0
        assert "No module named 'nonsense'" in host.journal()
        if how == "reload":
            load.answer(100)
            assert workers(host) == before
        release(host, APP)
        host.do("systemctl", "reset-failed", "uvworker.service")
        host.do("systemctl", "start", "uvworker.service")
        load.answer(100)
    assert load.failures == []
    wait_for(lambda: len(workers(host)) == 2, "two workers")


@contextmanager
def environment(host: Machine, *lines: str) -> Iterator[None]:
    """Start the service with further variables, and without them again."""
    usual = "WEB_CONCURRENCY=2\n"
    try:
        host.write("etc/uvworker.env", usual + "\n".join(lines))
        restart(host)
        yield
    finally:
        host.write("etc/uvworker.env", usual)
        restart(host)


def restart(host: Machine) -> None:
    """Restart the service, however often the tests have done so in this minute."""
    host.do("systemctl", "reset-failed", "uvworker.service")
    host.do("systemctl", "restart", "uvworker.service")


def ask(host: Machine, path: str) -> None:
    """Send a request to which no answer is expected."""
    url = f"http://{ADDRESS[0]}:{ADDRESS[1]}{path}"
    client = ("nsenter", f"--net={host.network}", "curl", "--silent")
    subprocess.run([*client, "--max-time", "60", url], check=False)


def test_a_hung_worker_is_replaced_and_the_service_goes_on(host: Machine) -> None:
    with environment(host, "GUNICORN_CMD_ARGS=--timeout 10"):
        wait_for(lambda: len(workers(host)) == 2, "two workers")
        before, old = workers(host), arbiter(host)
        ask(host, "/hang")
        wait_for(lambda: "time.sleep(600)" in host.journal(), "the line that blocks")
        wait_for(
            lambda: workers(host) - before and len(workers(host)) == 2, "a new worker"
        )
        assert arbiter(host) == old
        assert serves(host)


@contextmanager
def limited(host: Machine) -> Iterator[None]:
    """Start the service anew, and give its processes no more than `MEMORY`.

    As `MemoryMax` does, which has no effect here: systemd in a container does not get
    the memory controller of a machine that has it in version 1.
    """
    group = CGROUPS / "memory" / "uvt-memory"
    if not group.parent.is_dir():
        pytest.skip("the memory controller is not that of cgroups v1")
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(MEMORY))
    processes = group / "cgroup.procs"
    try:
        with environment(host):
            wait_for(lambda: len(workers(host)) == 2, "two workers")
            for pid in host.processes("uvworker.service"):
                processes.write_text(str(pid))
            yield
    finally:
        wait_for(lambda: not processes.read_text(), "the end of the processes")
        group.rmdir()


def test_a_worker_that_fills_the_memory_is_replaced_and_the_service_goes_on(
    host: Machine, load: Load
) -> None:
    with limited(host):
        before, old = workers(host), arbiter(host)
        ask(host, "/fill")
        wait_for(
            lambda: workers(host) - before and len(workers(host)) == 2, "a new worker"
        )
        [gone] = before - workers(host)
        assert re.search(rf"pid:{gone}\) was sent SIGKILL!", host.journal())
        assert arbiter(host) == old
        assert serves(host)
        with load:
            load.answer(100)
        assert load.failures == []
