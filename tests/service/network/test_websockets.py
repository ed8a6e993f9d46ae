"""WebSockets under gunicorn: what serves them, and what logs and hooks get."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.conftest import Serve
from tests.tools.certificates import Certificates
from tests.tools.service import PATIENCE, Service, wait_for

ECHO = """
async def app(scope, receive, send):
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    print("left with", message["code"], flush=True)
"""

HOOKS = """
def pre_request(worker, request):
    print("pre_request", request.method, request.path, flush=True)

def post_request(worker, request, environ, response):
    print("post_request", request.path, response.status_code, flush=True)
"""


def echoed(service: Service, path: str = "/", **options: object) -> str:
    url = f"ws://127.0.0.1:{service.port}{path}"
    with connect(url, open_timeout=PATIENCE, **options) as websocket:  # type: ignore[arg-type]
        websocket.send("hello")
        return str(websocket.recv(PATIENCE))


def test_a_websocket_is_a_line_in_the_access_log_and_none_elsewhere(
    serve: Serve,
) -> None:
    service = serve(ECHO, "--access-logfile", "-")
    before = service.log
    assert echoed(service, "/chat?x=1") == "hello"
    line = r'"GET /chat\?x=1 HTTP/1.1" 101 5 '
    wait_for(lambda: re.search(line, service.out), "a line of access")
    wait_for(lambda: "left with 1000" in service.out, "the end of the app")
    assert service.log == before
    assert service.out.count("/chat") == 1


def test_the_hooks_are_called_around_a_websocket(serve: Serve) -> None:
    service = serve(ECHO, conf=HOOKS)
    assert echoed(service, "/chat") == "hello"
    wait_for(lambda: "post_request" in service.out, "the hook")
    assert "pre_request GET /chat\n" in service.out
    assert re.search(r"post_request /chat 101\b", service.out)


@pytest.mark.parametrize("library", ["websockets-sansio", "wsproto"])
def test_a_protocol_that_is_chosen_is_uvicorns(serve: Serve, library: str) -> None:
    service = serve(ECHO, env={"UVICORN_WS": library})
    assert echoed(service) == "hello"
    service.wait_log(r'"WebSocket /" \[accepted\]')


def test_a_websocket_over_tls_is_served_and_told_of_its_fault(
    serve: Serve, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path)
    limit = {"UVICORN_WS_MAX_SIZE": "10"}
    service = serve(ECHO, *certificates.arguments, env=limit)
    url = f"wss://127.0.0.1:{service.port}/"
    with connect(url, ssl=certificates.client(), open_timeout=PATIENCE) as websocket:
        websocket.send("hello")
        assert websocket.recv(PATIENCE) == "hello"
        websocket.send("hello world")
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(PATIENCE)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009
    wait_for(lambda: "left with 1009" in service.out, "the end of the app")


def test_options_reach_the_websocket(serve: Serve) -> None:
    env = {
        "UVICORN_WS_PING_INTERVAL": "1",
        "UVICORN_WS_PING_TIMEOUT": "1",
        "UVICORN_WS_PER_MESSAGE_DEFLATE": "0",
    }
    service = serve(ECHO, env=env)
    with service.connect() as silent:
        silent.sendall(
            b"GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        received = b""
        while data := silent.recv(65536):
            received += data
    head, _, frames = received.partition(b"\r\n\r\n")
    assert b"sec-websocket-extensions" not in head
    assert frames.startswith(b"\x89\x00")
    assert frames.endswith(b"\x03\xf3keepalive ping timeout")
    wait_for(lambda: "left with 1011" in service.out, "the end of the app")
