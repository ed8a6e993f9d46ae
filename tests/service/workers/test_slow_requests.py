"""A request without an answer: the log says where it waits."""

from __future__ import annotations

import http.client
import importlib.util
import re
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.tools.http2 import Peer
from tests.tools.service import SETTINGS, wait_for

WAITS = """
import asyncio, functools, pathlib, threading, time
import anyio.to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

def held():
    return pathlib.Path("hold-request").exists()

async def culprit():
    while held():
        await asyncio.sleep(0.02)

async def waits(request):
    await culprit()
    return PlainTextResponse("at last")

def blocks(request):
    while held():
        time.sleep(0.02)
    return PlainTextResponse("at last")

async def streams(request):
    async def pieces():
        yield "begun"
        await culprit()
    return StreamingResponse(pieces())

async def talks(websocket):
    await websocket.accept()
    await websocket.send_text("begun")
    await culprit()
    await websocket.close()

class Between(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)

routes = [
    Route("/waits", waits),
    Route("/blocks", blocks),
    Route("/streams", streams),
    WebSocketRoute("/talks", talks),
]
app = Starlette(routes=routes)
behind = Starlette(routes=routes, middleware=[Middleware(Between)])

def wsgi(environ, start_response):
    while held():
        time.sleep(0.02)
    start_response("200 OK", [])
    return [b"at last"]
"""

SLOW = {"UVWORKER_SLOW_REQUEST": "0.2"}
SLOWLY = (
    r"Slow request: GET '{}' from 127\.0\.0\.1:\d+ has had no answer for [\d.]+ s\."
)

H2C = ("--http-protocols", "h2,h1", "--http2-cleartext", "prior-knowledge")
HTTP2 = "http2_cleartext" in SETTINGS and importlib.util.find_spec("zttp")


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    hold = tmp_path / "hold-request"
    hold.touch()
    return hold


@pytest.mark.parametrize(
    ("path", "place", "kwargs"),
    [
        ("/waits", r"main:\d+ waits > main:\d+ culprit > asyncio", {}),
        ("/waits", r"main:\d+ waits > main:\d+ culprit", {"app": "main:behind"}),
        (
            "/waits",
            r"main:\d+ waits > main:\d+ culprit",
            {"worker": "uvworker.H11Worker"},
        ),
        ("/blocks", r"; .*main:\d+ blocks", {}),
        ("/blocks", r"; .*main:\d+ blocks", {"app": "main:behind"}),
        ("/any", r"main:\d+ wsgi", {"app": "main:wsgi"}),
    ],
)
def test_the_log_says_once_where_it_waits(
    serve: Serve, hold: Path, path: str, place: str, kwargs: dict[str, str]
) -> None:
    interface = "wsgi" if kwargs.get("app") == "main:wsgi" else "auto"
    service = serve(WAITS, env={**SLOW, "UVICORN_INTERFACE": interface}, **kwargs)
    pattern = SLOWLY.format(path) + r" It is here: .*" + place
    requests: list[http.client.HTTPConnection] = []
    # On a busy machine the first ones may be reported on their way to that place.
    while not re.search(pattern, service.log) and len(requests) < 10:
        requests.append(service.begin(f"{path}?token=secret"))
        service.wait_log("Slow request", len(requests))
    service.wait_log(pattern)
    hold.unlink()
    assert {request.getresponse().status for request in requests} == {200}
    assert service.log.count("Slow request") == len(requests)
    assert "secret" not in service.log


def test_what_has_begun_is_not_slow(serve: Serve, hold: Path) -> None:
    service = serve(WAITS, env=SLOW)
    stream = service.begin("/streams").getresponse()
    assert stream.read(5) == b"begun"
    with service.connect() as client:
        client.sendall(
            b"GET /talks HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        wait_for(lambda: b"begun" in client.recv(1000), "the WebSocket talks")
        service.begin("/waits")
        service.wait_log(SLOWLY.format("/waits"))
        assert service.log.count("Slow request") == 1
        hold.unlink()
        assert stream.read() == b""


def test_there_are_ten_lines_a_minute(serve: Serve, hold: Path) -> None:
    service = serve(WAITS, env=SLOW)
    requests = [service.begin("/waits") for _ in range(15)]
    service.wait_log("Slow request", 10)
    hold.unlink()
    assert {request.getresponse().status for request in requests} == {200}
    assert service.log.count("Slow request") == 10


@pytest.mark.skipif(not HTTP2, reason="needs zttp, and a gunicorn with HTTP/2")
def test_a_stream_of_http_2_is_a_request(serve: Serve, hold: Path) -> None:
    service = serve(WAITS, *H2C, env=SLOW)
    with service.connect() as client:
        Peer(client).ask("/waits")
        service.wait_log(SLOWLY.format("/waits") + r" It is here: .*main:\d+ culprit")
    hold.unlink()
