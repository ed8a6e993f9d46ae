"""The production settings, as the three ways to use them give them to gunicorn."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import HELLO, Serve
from tests.tools.service import Service, gunicorn_lacks, heartbeat_files, wait_for
from uvworker.machine.cpus import usable_cpus

CONF = Path(__file__).parents[3] / "conf" / "gunicorn.conf.py"


@pytest.fixture(params=["import", "python:", "file"])
def configured(request: pytest.FixtureRequest) -> tuple[str, tuple[str, ...]]:
    """Return the conf text and the arguments of one way to take the defaults."""
    return {
        "import": ("from uvworker.defaults import *\n", ()),
        "python:": ("", ("-c", "python:uvworker.defaults")),
        "file": ("", ("-c", str(CONF))),
    }[request.param]


def test_one_worker_per_usable_cpu_with_its_heartbeat_in_memory(
    serve: Serve, configured: tuple[str, tuple[str, ...]]
) -> None:
    conf, args = configured
    env = {"WEB_CONCURRENCY": None, "PORT": None}
    service = serve(HELLO, *args, conf=conf, env=env, wait=usable_cpus())
    assert service.get().text == "Hello, world!"
    assert len(service.workers()) == usable_cpus()
    [name] = heartbeat_files(service.workers()[0]).values()
    assert name.startswith("/dev/shm/")


@gunicorn_lacks("control_socket")
@pytest.mark.parametrize("home", ["writable", "a file", "too long"])
def test_the_control_socket_is_made_where_it_can_be_and_else_nothing_is_said(
    serve: Serve, tmp_path: Path, home: str
) -> None:
    place = tmp_path / ("x" * 100 if home == "too long" else "home")
    place.touch() if home == "a file" else place.mkdir()
    env = {"HOME": str(place), "XDG_RUNTIME_DIR": None, "WEB_CONCURRENCY": "1"}
    service = serve(HELLO, conf="from uvworker.defaults import *", env=env)
    assert service.get().text == "Hello, world!"
    if home == "writable":
        wait_for((place / ".gunicorn" / "gunicorn.ctl").exists, "the control socket")
    service.stop()
    assert "[ERROR]" not in service.log


def test_web_concurrency_wins_over_the_cpus(serve: Serve) -> None:
    env = {"WEB_CONCURRENCY": "3"}
    service = serve(HELLO, conf="from uvworker.defaults import *", env=env, wait=3)
    assert len(service.workers()) == 3


def test_port_is_honoured_and_logs_go_to_the_standard_streams(
    serve: Serve, port: int
) -> None:
    service: Service = serve(
        HELLO,
        conf="from uvworker.defaults import *",
        env={"PORT": str(port), "WEB_CONCURRENCY": "1"},
        bind="",
    )
    assert service.port == port
    service.get("/where")
    wait_for(lambda: "GET /where" in service.out, "the access line on stdout")
