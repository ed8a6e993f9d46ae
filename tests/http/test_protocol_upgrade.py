"""Upgrades: WebSockets are handed over, everything else is served as it stands."""

from __future__ import annotations

import asyncio
import sys

import pytest
from websockets.sync.client import connect

from uvworker.http.forwarded import Forwarding
from uvworker.http.limits import Limits

from . import apps
from .test_protocol_requests import GET

H2C = (
    b"POST /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
)
WEBSOCKET = (
    b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def talk(scope, receive, send):
    """Echo on a WebSocket, with who is there; over HTTP as `echo`."""
    if scope["type"] == "http":
        await apps.echo(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    message = await receive()
    text = f"{scope['client'][0]} {scope['scheme']} {message['text']}"
    await send({"type": "websocket.send", "text": text})
    await receive()


@pytest.mark.parametrize("ws", ["websockets-sansio", "wsproto"])
def test_a_websocket_is_handed_to_uvicorns_protocol(serve, loop, ws):
    service = serve(talk, config={"loop": loop, "ws": ws})
    with connect(f"ws://127.0.0.1:{service.port}/") as websocket:
        websocket.send("hello")
        assert websocket.recv() == "127.0.0.1 ws hello"
        assert [type(c).__name__ for c in service.connections()] != ["HTTPProtocol"]


def test_a_websockets_client_is_known_behind_a_trusted_proxy(serve):
    forwarding = Forwarding.from_settings(
        secure_scheme_headers={"X-FORWARDED-PROTO": "https"}
    )
    service = serve(talk, forwarding=forwarding)
    headers = {"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "https"}
    uri = f"ws://127.0.0.1:{service.port}/"
    with connect(uri, additional_headers=headers) as websocket:
        websocket.send("hello")
        assert websocket.recv() == "1.2.3.4 wss hello"


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_an_offer_of_h2c_is_ignored_and_its_body_is_not(serve, loop, body):
    client = serve(apps.echo, config={"loop": loop}).connect()
    for _ in range(2):
        assert client.send(H2C + body).answer().body == b"hello"
    client.send(H2C + body[:-2])
    assert client.send(body[-2:]).answer().body == b"hello"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no eager tasks before 3.12")
def test_pipelined_offers_do_not_nest(serve, loop):
    """An app of eager tasks has answered each before the next is read."""

    async def app(scope, receive, send):
        running = asyncio.get_running_loop()
        # Not `eager_task_factory`: uvloop gives it an argument that 3.13.0's refuses.
        running.set_task_factory(
            lambda loop, coro, **_: asyncio.Task(coro, loop=loop, eager_start=True)
        )
        await apps.hello(scope, receive, send)

    client = serve(app, config={"loop": loop}).connect()
    assert client.send(GET).answer().status == 200
    offers = 300
    client.send(offers * (H2C.replace(b"POST", b"GET") + b"\r\n"))
    assert {client.answer().status for _ in range(offers)} == {200}


def test_a_websocket_is_refused_clearly_where_no_library_is(serve, caplog):
    service = serve(apps.hello)
    service.server.config.ws_protocol_class = None
    answer = service.ask(WEBSOCKET)
    assert (answer.status, answer.closing) == (501, True)
    assert "pip install websockets" in caplog.text


def test_with_websockets_switched_off_the_offer_is_ignored(serve):
    client = serve(apps.hello, config={"ws": "none"}).connect()
    assert client.send(WEBSOCKET).answer().body == b"Hello, world!"
    assert client.send(GET).answer().body == b"Hello, world!"


def test_an_ignored_offer_lifts_no_limit(serve, caplog):
    service = serve(apps.echo, limits=Limits(max_body_size=4))
    answer = service.ask(H2C + b"Content-Length: 5\r\n\r\nhello")
    assert answer.status == 413
    assert "Traceback" not in caplog.text


def test_a_handshake_keeps_to_limit_request_line(serve):
    service = serve(apps.hello, limits=Limits(request_line=64))
    answer = service.ask(WEBSOCKET.replace(b"/ HTTP", b"/" + b"a" * 64 + b" HTTP"))
    assert answer.status == 414


@pytest.mark.parametrize(
    "request_", [WEBSOCKET.replace(b"GET", b"POST"), WEBSOCKET.replace(b"1.1", b"1.0")]
)
def test_what_is_no_handshake_is_an_ordinary_request(serve, request_):
    answer = serve(apps.hello).ask(request_)
    assert (answer.status, answer.body) == (200, b"Hello, world!")


def test_an_ignored_offer_over_http_1_0_is_answered_as_such(serve):
    service = serve(apps.sending(apps.start(), apps.body(b"unframed")))
    answer = service.ask(H2C.replace(b"1.1", b"1.0") + b"\r\n")
    assert "transfer-encoding" not in answer.headers
    assert answer.closing


def test_connect_is_refused(serve):
    request = b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n"
    assert serve(apps.hello).ask(request).status == 501


def test_a_websocket_behind_an_unanswered_request_is_refused_in_its_turn(serve):
    client = serve(apps.hello).connect().send(GET + WEBSOCKET)
    assert client.answer().status == 200
    assert client.answer().status == 400
