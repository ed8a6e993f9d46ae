"""A balancer that checks `/readyz`, which is on another port than the app."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.tools.load import ECHO, Load
from tests.tools.proxies import needs, running
from tests.tools.service import CONF as NO_CONTROL_SOCKET
from tests.tools.service import Service, alive, reserved_port, wait_for

HAPROXY = """
global
    log stdout format raw local0 notice
defaults
    mode http
    log global
    timeout connect 2s
    timeout check 2s
    timeout client 60s
    timeout server 60s
    retries 3
    retry-on conn-failure
    option redispatch 1
listen front
    bind 127.0.0.1:{port}
    balance roundrobin
    option httpchk
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host localhost
    default-server check inter 200ms fall 1 rise 1
{servers}
"""


@pytest.fixture
def services(tmp_path: Path) -> Iterator[list[tuple[Service, int]]]:
    """Return two services that serve, each with its operator's port."""
    found = []
    with ExitStack() as stack:
        for name in ("app1", "app2"):
            port = stack.enter_context(reserved_port())
            directory = tmp_path / name
            directory.mkdir()
            (directory / "main.py").write_text(ECHO)
            (directory / "gunicorn.conf.py").write_text(NO_CONTROL_SOCKET)
            env: dict[str, str | None] = {
                "UVWORKER_OPS_BIND": f"127.0.0.1:{port}",
                "UVWORKER_DRAIN_DELAY": "2",
            }
            found.append((Service(directory, env=env), port))
        for service, _ in found:
            service.ready()
        yield found
        for service, _ in found:
            if alive(service.pid):
                service.stop()
            assert not service.sweep()


@needs("haproxy")
def test_a_host_leaves_by_readyz_before_it_drains_and_no_request_fails(
    services: list[tuple[Service, int]], tmp_path: Path
) -> None:
    lines = [
        f"    server app{number} 127.0.0.1:{service.port} port {port}"
        for number, (service, port) in enumerate(services, start=1)
    ]
    conf = tmp_path / "haproxy.cfg"
    with reserved_port() as front:
        conf.write_text(HAPROXY.format(port=front, servers="\n".join(lines)))
        command = ["haproxy", "-db", "-f", str(conf)]
        with (
            running(command, tmp_path, front),
            Load(("127.0.0.1", front), pause=0.01) as load,
        ):
            leaving = services[0][0]
            [pid] = leaving.workers()
            wait_for(lambda: pid in {each.pid for each in load.exchanges}, "its answer")
            leaving.kill(signal.SIGTERM)
            log = tmp_path / "haproxy.log"
            wait_for(lambda: "front/app1 is DOWN" in log.read_text(), "the verdict")
            assert alive(pid)
            assert leaving.wait_exit() == 0
            load.answer(100)
    assert load.failures == []
