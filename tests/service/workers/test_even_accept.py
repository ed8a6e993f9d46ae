"""Who gets the next connection: an even share, up to the ceiling, past the hung."""

from __future__ import annotations

import collections
import contextlib
import re
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
import trustme

from tests.conftest import Serve
from tests.tools.load import Address
from tests.tools.proxies import needs
from tests.tools.service import PATIENCE

# Answers with the worker's pid, after as many seconds as the query says, and with the
# most requests that the worker ever had at a time.
APP = """
import asyncio, os

running = most = 0

async def app(scope, receive, send):
    global running, most
    assert scope["type"] == "http"
    running += 1
    most = max(most, running)
    await asyncio.sleep(float(scope["query_string"]))
    running -= 1
    body = b"%d %d" % (os.getpid(), most)
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""

GET = b"GET /?%b HTTP/1.1\r\nHost: test\r\n\r\n"
LOOPS = {"uvloop": "", "asyncio": "import sys; sys.modules['uvloop'] = None"}
COUNT = 400  # connections
WORKERS = 4


def dial(address: Address) -> socket.socket:
    unix = isinstance(address, Path)
    connection = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    connection.settimeout(PATIENCE)
    connection.connect(str(address) if unix else address)
    return connection


def answer(connection: socket.socket) -> tuple[int, int]:
    """Read one answer: the worker's pid, and its most requests at a time."""
    received = b""
    while not (found := re.search(rb"\r\n\r\n(\d+) (\d+)$", received)):
        data = connection.recv(65536)
        assert data, received
        received += data
    assert received.startswith(b"HTTP/1.1 200 "), received
    return int(found[1]), int(found[2])


def fullest(address: Address, *, burst: bool, tls: ssl.SSLContext | None = None) -> int:
    """Open `COUNT` connections, and return how many the fullest worker has of them."""
    held: collections.Counter[int] = collections.Counter()
    with contextlib.ExitStack() as stack:
        dialled = [dial(address) for _ in range(COUNT if burst else 0)]
        for number in range(COUNT):
            connection = dialled[number] if burst else dial(address)
            if tls is not None:
                connection = tls.wrap_socket(connection, server_hostname="localhost")
            stack.enter_context(connection)
            connection.sendall(GET % b"0")
            pid, _ = answer(connection)
            held[pid] += 1
    assert len(held) == WORKERS
    return max(held.values())


@pytest.mark.alone
@pytest.mark.parametrize("burst", [True, False], ids=["burst", "one-by-one"])
@pytest.mark.parametrize(("loop", "kind"), [("uvloop", "tcp"), ("asyncio", "unix")])
def test_connections_spread_evenly(
    serve: Serve, tmp_path: Path, loop: str, kind: str, burst: bool
) -> None:
    path = tmp_path / "app.sock"
    bind = "127.0.0.1:0" if kind == "tcp" else f"unix:{path}"
    options = "-w", str(WORKERS), "--keep-alive", "60"
    service = serve(APP, *options, conf=LOOPS[loop], wait=WORKERS, bind=bind)
    address = ("127.0.0.1", service.port) if kind == "tcp" else path
    assert fullest(address, burst=burst) <= 1.1 * COUNT / WORKERS


@pytest.mark.alone
@pytest.mark.parametrize("burst", [True, False], ids=["burst", "one-by-one"])
def test_tls_connections_spread_evenly(
    serve: Serve, tmp_path: Path, burst: bool
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    options = "-w", str(WORKERS), "--keep-alive", "60", "--certfile", "both.pem"
    service = serve(APP, *options, "--keyfile", "both.pem", wait=WORKERS)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    address = "127.0.0.1", service.port
    assert fullest(address, burst=burst, tls=context) <= 1.1 * COUNT / WORKERS


def test_worker_connections_is_a_ceiling_and_refuses_nobody(serve: Serve) -> None:
    service = serve(APP, "-w", "2", "--worker-connections", "50", wait=2)
    connections = [dial(("127.0.0.1", service.port)) for _ in range(120)]
    for connection in connections:
        connection.sendall((GET % b"2").replace(b"Host", b"Connection: close\r\nHost"))
    most: dict[int, int] = {}
    for connection in connections:
        with connection:
            pid, at_a_time = answer(connection)
            most[pid] = max(at_a_time, most.get(pid, 0))
    assert sorted(most) == sorted(service.workers())
    assert max(most.values()) <= 50
    said = re.findall(r"\[(\d+)\] \[WARNING\] .*worker_connections", service.log)
    assert sorted(map(int, said)) == sorted(most)  # once by each


@pytest.mark.parametrize("loop", LOOPS)
def test_a_stopped_sibling_delays_nobody(serve: Serve, loop: str) -> None:
    service = serve(APP, "-w", "2", conf=LOOPS[loop], wait=2)
    stopped, running = service.workers()
    service.kill(signal.SIGSTOP, stopped)
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                connection = stack.enter_context(dial(("127.0.0.1", service.port)))
                connection.sendall(GET % b"0")
                assert answer(connection)[0] == running
    finally:
        service.kill(signal.SIGCONT, stopped)


def test_a_silent_proxy_delays_nobody(serve: Serve) -> None:
    service = serve(APP, conf="proxy_protocol = True")
    with service.connect(), service.connect() as proxied:
        proxied.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + GET % b"0")
        answer(proxied)


@needs("ss")
def test_the_backlog_is_what_was_asked_for(serve: Serve) -> None:
    service = serve(APP, "--backlog", "77")
    command = ["ss", "-ltnH", f"sport = :{service.port}"]
    listening = subprocess.run(command, capture_output=True, text=True, check=True)
    assert listening.stdout.split()[2] == "77"


def test_with_reuse_port_a_leaving_worker_answers_its_own_backlog(
    serve: Serve, port: int
) -> None:
    """Which no sibling can take over: each has a listener of its own."""
    address = "127.0.0.1", port
    bind = f"127.0.0.1:{port}"
    options = "--reuse-port", "-w", "2", "--worker-connections", "1"
    service = serve(APP, *options, bind=bind, wait=2)
    leaving = service.workers()
    connections = [dial(address) for _ in range(40)]
    for connection in connections:
        connection.sendall(GET % b"1")
    service.wait_log("as many as worker_connections allows", 2)
    for pid in leaving:
        service.kill(signal.SIGTERM, pid)
    pids = set()
    for connection in connections:
        with connection:
            pids.add(answer(connection)[0])
    assert pids == set(leaving)
