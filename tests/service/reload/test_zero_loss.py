"""No change of workers loses a request: the promises of the drain, under full load.

Clients of our own keep the service busy over TCP, a unix socket and nginx while workers
are reloaded, recycled, added, removed, told to stop, and replaced by a new arbiter.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.tools.load import ECHO, Address, Load
from tests.tools.service import READY, Service, children_of, wait_for

SOAK = int(os.environ.get("UVWORKER_SOAK", "3"))  # changes of workers

NGINX = """
daemon off;
master_process off;
error_log {directory}/nginx-error.log;
pid {directory}/nginx.pid;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {directory};
    proxy_temp_path {directory};
    fastcgi_temp_path {directory};
    uwsgi_temp_path {directory};
    scgi_temp_path {directory};
    upstream app {{
        server 127.0.0.1:{port};
        keepalive 16;
    }}
    server {{
        listen unix:{directory}/nginx.sock;
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_next_upstream off;
        }}
    }}
}}
"""

Start = Callable[..., tuple[Service, Address]]


@pytest.fixture(
    params=[("tcp", 1), ("tcp", 4), ("unix", 4)], ids="{0[0]}-{0[1]}".format
)
def shape(request: pytest.FixtureRequest) -> tuple[str, int]:
    """Return what clients connect by, and how many workers there are."""
    return request.param


@pytest.fixture
def workers(shape: tuple[str, int]) -> int:
    return shape[1]


@pytest.fixture
def start(serve: Serve, shape: tuple[str, int], tmp_path: Path) -> Start:
    """Start workers that serve `ECHO`; return the service and where clients find it."""
    kind, workers = shape
    path = tmp_path / "app.sock"

    def start(*args: str) -> tuple[Service, Address]:
        options = "-w", str(workers), "--graceful-timeout", "10", *args
        bind = f"unix:{path}" if kind == "unix" else "127.0.0.1:0"
        service = serve(ECHO, *options, bind=bind, wait=workers)
        return service, path if kind == "unix" else ("127.0.0.1", service.port)

    return start


@contextlib.contextmanager
def nginx_before(service: Service) -> Iterator[Path]:
    """Run nginx with upstream keep-alive, and give the socket that it listens on."""
    conf, door = service.directory / "nginx.conf", service.directory / "nginx.sock"
    conf.write_text(NGINX.format(directory=service.directory, port=service.port))
    nginx = subprocess.Popen(["nginx", "-c", str(conf)])
    try:
        wait_for(lambda: answers(door), "nginx listening")
        yield door
    finally:
        nginx.terminate()
        nginx.wait()


def answers(door: Path) -> bool:
    """Whether somebody listens; the socket's file is there a moment earlier."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(door)) == 0


# Changes of workers: each ends when those that are to serve do, and no others live


def serving(service: Service) -> int:
    return service.log.count(READY)


def hup(service: Service, count: int) -> None:
    old = set(service.workers())
    service.kill(signal.SIGHUP)
    settled(service, old, count)


def term_one(service: Service, count: int) -> None:
    victim = random.choice(service.workers())
    service.kill(signal.SIGTERM, victim)
    settled(service, {victim}, count)


def ttin_and_ttou(service: Service, count: int) -> None:
    before, oldest = serving(service), service.workers()[0]
    service.kill(signal.SIGTTIN)
    service.ready(before + 1)
    service.kill(signal.SIGTTOU)
    settled(service, {oldest}, count)


def settled(service: Service, gone: set[int], count: int) -> None:
    """Wait until *count* workers serve, none of the *gone* among them."""

    def now() -> bool:
        workers = service.workers()
        ready = [pid for pid in workers if f"[{pid}] [INFO] {READY}" in service.log]
        return len(ready) == len(workers) == count and not gone & set(workers)

    wait_for(now, f"{count} workers serve, and {gone} are gone")


CHANGES = [hup, term_one, ttin_and_ttou]


def test_four_reloads_drop_no_request(start: Start, workers: int) -> None:
    service, address = start()
    with Load(address) as load:
        for _ in range(4):
            hup(service, workers)
            load.answer(20)
    assert load.failures == []


def test_a_worker_told_to_stop_drops_no_request(start: Start, workers: int) -> None:
    service, address = start()
    with Load(address) as load:
        for _ in range(3):
            term_one(service, workers)
            load.answer(20)
    assert load.failures == []


def test_one_worker_more_and_one_less_drops_no_request(
    start: Start, workers: int
) -> None:
    service, address = start()
    with Load(address) as load:
        for _ in range(2):
            ttin_and_ttou(service, workers)
            load.answer(20)
    assert load.failures == []


def test_recycling_all_the_time_drops_no_request(start: Start, workers: int) -> None:
    service, address = start("--max-requests", "500")
    with Load(address) as load:
        service.wait_log(r"Recycling worker \d+: \d+ requests, max_requests 500", 4)
        service.ready(workers + 4)
        load.answer(20)
    assert load.failures == []


def test_a_new_arbiter_takes_over_without_a_lost_request(
    start: Start, workers: int
) -> None:
    service, address = start()
    old_workers = set(service.workers())
    with Load(address) as load:
        service.kill(signal.SIGUSR2)
        service.ready(2 * workers)
        (new,) = set(children_of(service.pid)) - old_workers
        try:
            load.answer(20)
            assert service.stop() == 0
            load.answer(100)
        finally:
            load.over.set()
            service.kill(signal.SIGTERM, new)
            service.wait_gone(new)
    # From here on nobody was to answer: the service had been stopped.
    assert load.lost_in_a_stop == []


def test_a_stop_answers_every_request_sent_before_the_listener_closed(
    start: Start,
) -> None:
    service, address = start()
    with Load(address) as load:
        service.kill(signal.SIGTERM)
        load.wait_refused()
    assert service.wait_exit() == 0
    assert load.lost_in_a_stop == []


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
@pytest.mark.parametrize("workers", [1, 4])
def test_nginx_sees_no_failure_while_workers_change(serve: Serve, workers: int) -> None:
    service = serve(ECHO, "-w", str(workers), wait=workers)
    with nginx_before(service) as door, Load(door) as load:
        for change in CHANGES:
            change(service, workers)
            load.answer(20)
    assert load.failures == []


@pytest.mark.soak
@pytest.mark.timeout(120 + 30 * SOAK)
def test_any_sequence_of_changes_drops_no_request(start: Start, workers: int) -> None:
    service, address = start("--max-requests", "2000")
    with Load(address, keep_alive=6) as load:
        for _ in range(SOAK):
            random.choice(CHANGES)(service, workers)
            load.answer(10)
            assert load.failures == []
