"""Three hosts behind a proxy, redeployed one after the other under load."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.certificates import Certificates
from tests.tools.load import ECHO, Load
from tests.tools.proxies import needs
from tests.tools.service import CONF as NO_CONTROL_SOCKET
from tests.tools.service import alive, wait_for

from .hosts import PROXY, PROXY_ADDRESS, Host, network, proxy
from .shipped import HAPROXY_FRONT, NGINX_FRONT, Front, Site

ROUNDS = int(os.environ.get("UVWORKER_SOAK", "1"))

PORT, HTTP_PORT = 443, 80
NETWORK = Path("/run/netns", PROXY)

FRONTS = [
    pytest.param(front, marks=needs(front.name), id=front.name)
    for front in (HAPROXY_FRONT, NGINX_FRONT)
]

# By the ready path, with time for the proxy to see it; and without either.
READY = {"UVWORKER_READY_PATH": "/-/ready", "UVWORKER_DRAIN_DELAY": "2"}
PLAIN = {"UVWORKER_READY_PATH": "/-/ready"}


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[list[Host]]:
    """Return three hosts on one network, with nothing started yet."""
    hosts = []
    for number in (1, 2, 3):
        directory = tmp_path / f"h{number}"
        directory.mkdir()
        (directory / "main.py").write_text(ECHO)
        (directory / "gunicorn.conf.py").write_text(NO_CONTROL_SOCKET)
        args = ("--keep-alive", "75", "--forwarded-allow-ips", PROXY_ADDRESS)
        hosts.append(Host(number, directory, *args))
    with network(hosts):
        yield hosts
        for host in hosts:
            if host.service:
                if alive(host.service.pid):
                    host.stop()
                assert not host.service.sweep()


@pytest.fixture
def site(tmp_path: Path, certificates: Certificates, hosts: list[Host]) -> Site:
    apps = tuple(f"{host.address}:8000" for host in hosts)
    return Site(tmp_path, certificates, apps, PORT, HTTP_PORT)


def load_on(site: Site) -> Load:
    tls = site.certificates.client()
    tls.maximum_version = tls.maximum_version.TLSv1_2  # 1.3's tickets look like an end
    return Load(("127.0.0.1", PORT), tls=tls, network=NETWORK, pause=0.01)


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("options", [PLAIN, READY], ids=["checks", "drain_delay"])
@pytest.mark.soak
def test_hosts_are_redeployed_one_by_one_and_no_request_fails(
    hosts: list[Host], site: Site, front: Front, options: dict[str, str]
) -> None:
    """Stop, new code, start, the next: as fast as it goes, so no host has a rest."""
    for host in hosts:
        host.start(**options)
    with proxy(front.files(site), site.directory), load_on(site) as load:
        for _ in range(ROUNDS):
            for host in hosts:
                host.stop()
                host.start(**options)
                load.answer(100)
    assert load.failures == []
    print(f"{front.name}: {load.answered} requests, {ROUNDS} rounds")  # noqa: T201


# Where the balancer hears late that a host leaves, as a node of Kubernetes does

BALANCER = """
global
    stats socket {directory}/admin.sock mode 600 level admin
defaults
    mode tcp
    timeout connect 2s
    timeout client 60s
    timeout server 60s
listen app
    bind 127.0.0.1:443
    balance roundrobin
{servers}
"""


def tell(directory: Path, *words: str) -> None:
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(str(directory / "admin.sock"))
        admin.sendall(" ".join(words).encode() + b"\n")
        assert admin.recv(4096).strip() == b""


@pytest.mark.parametrize("delay", ["0", "5"])
@needs("haproxy")
def test_drain_delay_covers_the_time_until_the_balancer_hears_of_a_stop(
    hosts: list[Host], tmp_path: Path, delay: str
) -> None:
    """Without the delay there is a loss: the race that it is for is still there."""
    for host in hosts:
        host.start(UVWORKER_DRAIN_DELAY=delay)
    servers = "\n".join(f"    server {h.name} {h.address}:8000" for h in hosts)
    conf = tmp_path / "balancer.cfg"
    conf.write_text(BALANCER.format(directory=tmp_path, servers=servers))
    with (
        proxy(["haproxy", "-db", "-f", str(conf)], tmp_path),
        Load(("127.0.0.1", PORT), network=NETWORK, pause=0.01) as load,
    ):
        leaving = hosts[0]
        assert leaving.service
        leaving.service.kill(signal.SIGTERM)
        if delay == "0":
            wait_for(lambda: load.failures, "a loss")
            return
        load.answer(100)  # the time that the message takes
        tell(tmp_path, "disable", "server", f"app/{leaving.name}")
        leaving.service.wait_exit()
        load.answer(100)
    assert load.failures == []


@needs("haproxy")
def test_a_host_that_is_cut_off_is_left_out_and_comes_back(
    hosts: list[Host], site: Site
) -> None:
    for host in hosts:
        host.start(**READY)
    with proxy(HAPROXY_FRONT.files(site), site.directory):
        lost = hosts[0]
        assert lost.service
        [pid] = lost.service.workers()
        lost.cut("down")
        log = site.directory / "proxy.log"
        wait_for(lambda: "app/app1 is DOWN" in log.read_text(), "the check's verdict")
        with load_on(site) as load:
            load.answer(200)
            lost.cut("up")
            wait_for(lambda: pid in {each.pid for each in load.exchanges}, "its return")
        assert load.failures == []
