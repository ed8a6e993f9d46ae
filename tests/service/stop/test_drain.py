"""How a worker that stops ends each kind of connection: the promises of the drain.

Every request on its way is answered, whatever the connection was doing; what never ends
by itself gets a disconnect, then it is cut; and the app is shut down in any case.
"""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as websocket

from tests.conftest import Serve
from tests.tools.certificates import Certificates
from tests.tools.load import ECHO, Client, Load
from tests.tools.service import PATIENCE, Service, wait_for

APP = """
import asyncio, pathlib

async def app(scope, receive, send):
    await globals()[scope["type"]](scope, receive, send)

async def lifespan(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    print("lifespan closed", flush=True)
    await send({"type": "lifespan.shutdown.complete"})

async def http(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/stream":
        await stream(receive, send, stubborn=scope["query_string"] == b"stubborn")
    await send({"type": "http.response.body", "body": b"the end"})

async def stream(receive, send, stubborn):
    told = asyncio.ensure_future(hear(receive))
    while stubborn or not told.done():
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.sleep(0.02)

async def hear(receive):
    while (await receive())["type"] != "http.disconnect":
        pass
    print("stream told", flush=True)

async def websocket(scope, receive, send):
    await receive()
    print("handshake", flush=True)
    while scope["path"] == "/slow" and not pathlib.Path("accept").exists():
        await asyncio.sleep(0.02)
    await send({"type": "websocket.accept"})
    print("left with", (await receive()).get("code"), flush=True)
"""

GET = b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n"


# What libraries for server-sent events do, to hear that the server is to leave.
LISTENING = """
import asyncio, uvicorn

leaving = asyncio.Event()
handle_exit = uvicorn.Server.handle_exit

def hear(server, *args):
    leaving.set()
    handle_exit(server, *args)

uvicorn.Server.handle_exit = hear

async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while not leaving.is_set():
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.sleep(0.02)
    await send({"type": "http.response.body", "body": b"the end"})
"""


def stop_accepting(service: Service) -> None:
    """Tell the arbiter to stop, and wait until no worker accepts any more."""
    service.kill(signal.SIGTERM)
    wait_for(service.refuses, "new connections refused")


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes; a reset is an error."""
    received = b""
    while data := connection.recv(65536):
        received += data
    return received


# HTTP


def test_a_request_on_an_idle_connection_is_answered_and_announces_the_end(
    serve: Serve,
) -> None:
    service = serve(APP)
    with service.connect() as connection:
        connection.sendall(GET % b"/")
        while b"the end\r\n0\r\n\r\n" not in connection.recv(65536, socket.MSG_PEEK):
            pass
        assert b"connection: close" not in connection.recv(65536)
        stop_accepting(service)
        connection.sendall(GET % b"/")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b"the end\r\n0\r\n\r\n")
    assert service.wait_exit() == 0


def test_a_connection_that_is_not_open_yet_is_told_too(serve: Serve) -> None:
    """Accepted, and waiting for its PROXY header when the worker stops accepting."""
    service = serve(APP, "--proxy-protocol", "--graceful-timeout", "60")
    with service.connect() as connection:
        stop_accepting(service)
        connection.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + GET % b"/")
        answer = read_all(connection)
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b"the end\r\n0\r\n\r\n")
    assert service.wait_exit() == 0


def test_idle_connections_do_not_hold_a_stopping_worker(serve: Serve) -> None:
    service = serve(APP, "--keep-alive", "300", "--graceful-timeout", "300")
    silent, idle = service.connect(), service.connect()
    with silent, idle:
        idle.sendall(GET % b"/")
        assert idle.recv(1)
        assert service.stop() == 0  # within PATIENCE
        assert silent.recv(1) == b""
    assert "lifespan closed" in service.out
    assert "WARNING" not in service.log


def test_half_a_request_does_not_hold_a_stopping_worker(serve: Serve) -> None:
    service = serve(APP, "--graceful-timeout", "300")
    with service.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHo")
        service.kill(signal.SIGTERM)
        assert b" 503 " in read_all(connection).partition(b"\r\n")[0]
    assert service.wait_exit() == 0


def test_a_stream_is_told_before_the_deadline_and_may_end_well(serve: Serve) -> None:
    service = serve(APP, "--graceful-timeout", "8")
    with service.connect() as connection:
        connection.sendall(GET % b"/stream")
        assert connection.recv(1)
        service.kill(signal.SIGTERM)
        assert read_all(connection).endswith(b"the end\r\n0\r\n\r\n")
    assert service.wait_exit() == 0
    assert service.out == "stream told\nlifespan closed\n"
    assert "WARNING" not in service.log


def test_a_stream_that_does_not_listen_is_cut_and_the_app_shut_down(
    serve: Serve,
) -> None:
    service = serve(APP, "--graceful-timeout", "6")
    with service.connect() as connection:
        connection.sendall(GET % b"/stream?stubborn")
        assert connection.recv(1)
        service.kill(signal.SIGTERM)
        assert not read_all(connection).endswith(b"0\r\n\r\n")
    assert service.wait_exit() == 0
    assert service.out == "stream told\nlifespan closed\n"
    assert "Cancelling 1 request(s): they did not end in time." in service.log


def test_an_app_that_listens_for_uvicorns_exit_hears_of_a_drain_at_once(
    serve: Serve,
) -> None:
    service = serve(LISTENING, "--graceful-timeout", "20")
    with service.connect() as connection:
        connection.sendall(GET % b"/")
        assert connection.recv(1)
        service.kill(signal.SIGTERM)
        assert read_all(connection).endswith(b"the end\r\n0\r\n\r\n")
    assert service.wait_exit() == 0


# WebSockets


@pytest.mark.parametrize(
    "library", ["auto", "websockets", "websockets-sansio", "wsproto"]
)
def test_a_websocket_is_closed_with_1012_at_once(serve: Serve, library: str) -> None:
    service = serve(APP, "--graceful-timeout", "300", env={"UVICORN_WS": library})
    url = f"ws://127.0.0.1:{service.port}/"
    with websocket(url, open_timeout=PATIENCE) as connection:
        service.kill(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=PATIENCE)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert service.wait_exit() == 0
    assert service.out == "handshake\nleft with 1012\nlifespan closed\n"


@pytest.mark.parametrize(
    "library", ["auto", "websockets", "websockets-sansio", "wsproto"]
)
def test_a_websocket_in_its_handshake_is_accepted_and_closed_with_1012(
    serve: Serve, tmp_path: Path, library: str
) -> None:
    service = serve(APP, "--graceful-timeout", "60", env={"UVICORN_WS": library})
    with service.connect() as connection:
        connection.sendall(
            b"GET /slow HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        wait_for(lambda: "handshake" in service.out, "a handshake")
        stop_accepting(service)
        (tmp_path / "accept").touch()
        answer = b""
        while b"\x88" not in answer:  # a close frame
            data = connection.recv(65536)
            assert data, answer
            answer += data
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert answer[answer.index(b"\x88") + 2 :][:2] == (1012).to_bytes(2, "big")
        connection.sendall(b"\x88\x82\0\0\0\0" + (1012).to_bytes(2, "big"))
    assert service.wait_exit() == 0


@pytest.mark.parametrize(
    "library", ["auto", "websockets", "websockets-sansio", "wsproto"]
)
def test_a_tls_websocket_that_ignores_its_close_is_cut_in_time(
    serve: Serve, tmp_path: Path, library: str
) -> None:
    """It answers neither the close frame nor TLS's own goodbye."""
    certificates = Certificates(tmp_path)
    options = *certificates.arguments, "--graceful-timeout", "6"
    service = serve(APP, *options, env={"UVICORN_WS": library})
    client = certificates.client()
    with client.wrap_socket(service.connect(), server_hostname="127.0.0.1") as deaf:
        deaf.sendall(
            b"GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert deaf.recv(65536).startswith(b"HTTP/1.1 101 ")
        assert service.stop() == 0
    assert service.out == "handshake\nleft with 1012\nlifespan closed\n"
    assert "SIGKILL" not in service.log
    assert "ERROR" not in service.log


# Load balancers that are slow to notice


def test_drain_delay_goes_on_accepting_after_the_stop(serve: Serve) -> None:
    env = {"UVWORKER_DRAIN_DELAY": "3"}
    service = serve(ECHO, "-w", "2", "--graceful-timeout", "30", wait=2, env=env)
    with Load(("127.0.0.1", service.port), keep_alive=0, pause=0.01) as load:
        told = time.monotonic()
        service.kill(signal.SIGTERM)
        load.wait_refused()
    assert service.wait_exit() == 0
    assert load.lost_in_a_stop == []
    last = max(each.began for each in load.exchanges if not each.failure)
    assert last - told > 1


def test_drain_delay_does_not_delay_a_change_of_workers(serve: Serve) -> None:
    env = {"UVWORKER_DRAIN_DELAY": "300"}
    service = serve(ECHO, "-w", "2", "--graceful-timeout", "300", wait=2, env=env)
    old = service.workers()
    service.kill(signal.SIGHUP)
    for pid in old:
        service.wait_gone(pid)
    service.kill(signal.SIGQUIT)  # a TERM would now take its 300 s
    assert service.wait_exit() == 0


def test_one_worker_stopped_by_hand_leaves_what_waits_to_its_successor(
    serve: Serve,
) -> None:
    service = serve(ECHO)
    client = Client(("127.0.0.1", service.port))
    (worker,) = service.workers()
    service.kill(signal.SIGTERM, worker)
    service.wait_gone(worker)
    exchange = client.exchange()
    client.close()
    assert exchange.failure == ""
    assert exchange.pid != worker


# The backlog


def test_a_stop_answers_what_waits_in_the_backlog(serve: Serve) -> None:
    """Connected and sent, while the one worker had all the connections it may have."""
    service = serve(APP, "--worker-connections", "1", "--graceful-timeout", "30")
    with service.connect() as first:
        first.sendall(GET % b"/")
        assert first.recv(1)
        waiting = [service.connect() for _ in range(30)]
        for connection in waiting:
            connection.sendall(GET % b"/")
        service.wait_log("as many as worker_connections allows")
        service.kill(signal.SIGTERM)
        for connection in waiting:
            with connection:
                assert read_all(connection).endswith(b"the end\r\n0\r\n\r\n")
    assert service.wait_exit() == 0
