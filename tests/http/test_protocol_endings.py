"""How a connection ends for a client that sends no more, goes on, or never reads."""

from __future__ import annotations

import asyncio
import socket

import pytest

from uvworker.http import service as service_module
from uvworker.http.limits import Limits

from . import apps
from .conftest import until
from .test_protocol_requests import GET

pytestmark = pytest.mark.usefixtures("quick")

HEAD = b" / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST" + HEAD + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = b"POST" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
GET_10 = b"GET / HTTP/1.0\r\n\r\n"


def half_closed(service, request: bytes):
    client = service.connect().send(request)
    client.sock.shutdown(socket.SHUT_WR)
    return client


# -- a client that ends its side


@pytest.mark.parametrize("request_", [GET, GET_10, POST, CHUNKED])
@pytest.mark.parametrize("pause", [0, 0.3])
def test_a_half_closed_client_gets_its_answer(serve, loop, request_, pause):
    async def app(_scope, receive, send):
        data = await apps.read(receive)
        await asyncio.sleep(pause)
        await apps.answer(send, b"got %b" % data)

    service = serve(app, config={"loop": loop})
    client = half_closed(service, request_)
    answer = client.answer()
    body = b"got hello" if b"POST" in request_ else b"got "
    assert (answer.status, answer.body) == (200, body)
    assert client.rest() == b""
    until(lambda: not service.connections())


def test_a_half_closed_client_gets_all_of_a_stream(serve, loop):
    async def app(_scope, _receive, send):
        await send(apps.start())
        for _ in range(5):
            await asyncio.sleep(0.05)
            await send(apps.body(b"x" * 100_000, more=True))
        await send(apps.body())

    service = serve(app, config={"loop": loop})
    assert len(half_closed(service, GET).answer().body) == 500_000
    until(lambda: not service.connections())


def test_a_half_closed_client_gets_the_answers_of_all_that_it_asked(serve, loop):
    async def app(scope, receive, send):
        await asyncio.sleep(0.1)
        await apps.path(scope, receive, send)

    service = serve(app, config={"loop": loop})
    requests = (b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(3))
    client = half_closed(service, b"".join(requests))
    assert [client.answer().body for _ in range(3)] == [b"/0", b"/1", b"/2"]
    assert client.rest() == b""


def test_an_app_that_waits_for_the_disconnect_hears_of_a_half_close(serve, loop):
    """It could be a client that has left: the two look alike."""
    heard, records = [], []

    async def app(_scope, receive, send):
        await apps.read(receive)
        await send(apps.start())
        await send(apps.body(b"data", more=True))
        heard.append(await receive())

    service = serve(app, config={"loop": loop}, record=records.append)
    client = half_closed(service, GET)
    until(lambda: heard and records and not service.connections())
    assert heard == [{"type": "http.disconnect"}]
    assert [(record.status, record.sent) for record in records] == [(200, 4)]
    assert not client.rest().endswith(b"0\r\n\r\n")


def test_an_app_that_ends_because_its_client_left_is_no_error(serve, loop, caplog):
    async def app(_scope, receive, _send):
        while (await receive())["type"] != "http.disconnect":
            pass

    service = serve(app, config={"loop": loop})
    half_closed(service, GET)
    until(lambda: not service.connections())
    assert not caplog.records


@pytest.mark.parametrize("sent", [b"", b"GET /", POST[:-2], GET + b"GET /"])
def test_a_client_that_ends_in_the_midst_of_a_request_is_closed(serve, loop, sent):
    service = serve(apps.echo, config={"loop": loop})
    assert half_closed(service, sent).rest().count(b" 200 ") == sent.count(GET)
    until(lambda: not (service.connections() or service.server.server_state.tasks))


def test_a_stream_ends_at_the_first_failed_write_to_a_client_that_left(serve, loop):
    ended = []

    async def app(_scope, _receive, send):
        await send(apps.start())
        try:
            while True:
                await send(apps.body(b"data", more=True))
                await asyncio.sleep(0.01)
        finally:
            ended.append(1)

    service = serve(app, config={"loop": loop}, limits=Limits(disconnect_grace=1))
    client = service.connect().send(GET)
    client.response()
    client.close()
    until(lambda: not service.connections())
    until(lambda: ended)


# -- a client that goes on sending

BIG = 8 << 20  # bytes, more than the kernel takes at once


@pytest.mark.parametrize(
    ("request_", "headers"),
    [
        (b"GET" + HEAD + b"Connection: close\r\n\r\n", []),
        (GET_10, []),
        (GET, [(b"connection", b"close")]),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_an_answer_is_not_lost_to_a_client_that_goes_on_sending(
    serve, loop, request_, headers, late
):
    """A close with something unread would reset the connection: RFC 9112 9.6."""

    async def app(_scope, _receive, send):
        await apps.answer(send, b"x" * BIG, *headers)

    service = serve(app, config={"loop": loop})
    client = service.connect()
    client.send(request_ if late else request_ + GET * 50)
    received = client.line()
    for _ in range(20 * late):
        client.send(GET)
    while piece := client.sock.recv(65536):
        received += piece
    assert received.endswith(b"x" * BIG)  # a reset would have raised
    assert received.count(b"HTTP/1.1") == 1


def test_a_client_that_closes_in_turn_is_not_lingered_for(serve, loop, monkeypatch):
    monkeypatch.setattr(service_module, "LINGER", 3600)
    service = serve(apps.hello, config={"loop": loop})
    client = service.connect().send(GET_10)
    assert client.rest().endswith(b"Hello, world!")
    client.close()
    until(lambda: not service.connections())


@pytest.mark.slow
def test_a_client_that_never_closes_is_not_waited_for_for_long(serve, loop):
    service = serve(apps.hello, config={"loop": loop})
    client = service.connect().send(GET_10)
    assert client.rest().endswith(b"Hello, world!")
    until(lambda: not service.connections())


# -- a client that does not read


@pytest.mark.slow
@pytest.mark.parametrize("told", ["before", "after"])
def test_a_stuck_reader_is_dropped_soon_once_the_worker_stops(serve, loop, told):
    """Without a stop it would have WRITE_STALL seconds, half a minute."""

    async def app(_scope, _receive, send):
        await send(apps.start())
        while True:
            await send(apps.body(b"x" * 65536, more=True))

    service = serve(app, config={"loop": loop}, limits=Limits(request_timeout=0.5))
    client = service.connect()
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.send(GET)
    until(lambda: any(c.cycle for c in service.connections()))
    if told == "before":
        service.do(lambda connection: connection.shutdown())
    until(lambda: all(c.transport.is_closing() for c in service.connections()))
    if told == "after":
        assert service.connections()
        service.do(lambda connection: connection.shutdown())
    until(lambda: not service.connections())


@pytest.mark.slow
def test_a_slow_reader_is_not_taken_for_a_stuck_one(serve, loop):
    size = 8 << 20

    async def app(_scope, _receive, send):
        await apps.answer(send, b"x" * size)

    service = serve(app, config={"loop": loop})
    client = service.connect()
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.send(GET)
    until(lambda: service.server.server_state.total_requests)
    (connection,) = service.connections()
    service.do(lambda connection: connection.shutdown())
    until(connection.transport.is_closing)
    clock = connection.service.clock
    end = clock.turn + 2 * connection.service.close_notify_turns
    # A little of what the kernel holds, each time; the clock stops without connections.
    until(lambda: client.sock.recv(4096) and clock.turn > end)
    assert service.connections()
