"""Nothing is open-ended: silence, slowness, stalled bodies, slow apps, slow readers."""

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

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
def test_a_connection_on_which_nothing_was_asked_is_closed_silently(
    serve, loop, sent, caplog
):
    """Browsers and load balancers open connections that they may never need."""
    records = []
    service = serve(
        apps.hello,
        limits=Limits(header_timeout=0.3),
        config={"loop": loop},
        record=records.append,
    )
    assert service.connect().send(sent).rest() == b""
    until(lambda: not service.connections())
    assert (records, caplog.records) == ([], [])


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\nHost"])
def test_a_head_that_does_not_end_is_answered_408(serve, loop, sent):
    service = serve(
        apps.hello, limits=Limits(header_timeout=0.3), config={"loop": loop}
    )
    client = service.connect().send(sent)
    answer = client.answer()
    assert (answer.status, answer.closing) == (408, True)
    assert client.rest() == b""


def test_a_byte_now_and_then_does_not_stretch_the_deadline(serve):
    service = serve(apps.hello, limits=Limits(header_timeout=0.5))
    client = service.connect().send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
    client.sock.settimeout(0.1)
    received = b""
    for _ in range(100):
        client.send(b"a")
        try:
            received = client.sock.recv(65536)
            break
        except TimeoutError:
            pass
    assert b" 408 " in received


def test_the_second_head_has_a_deadline_too(serve):
    service = serve(apps.hello, limits=Limits(header_timeout=1))
    client = service.connect()
    assert client.send(GET).answer().status == 200
    assert client.send(b"GET").answer().status == 408


def test_an_idle_connection_is_closed_after_keepalive(serve, loop):
    service = serve(apps.hello, config={"loop": loop, "timeout_keep_alive": 1})
    client = service.connect()
    for _ in range(2):
        assert not client.send(GET).answer().closing
    assert client.rest() == b""


def test_empty_lines_do_not_keep_a_connection_alive(serve):
    service = serve(apps.hello, config={"timeout_keep_alive": 1})
    client = service.connect()
    assert client.send(GET).answer().status == 200
    client.sock.settimeout(0.1)
    closed = False
    for _ in range(100):
        try:
            client.send(b"\r\n")
            closed = client.sock.recv(1) == b""
            break
        except TimeoutError:
            pass
        except ConnectionError:  # the end and a line have crossed
            closed = True
            break
    assert closed


def test_an_app_may_take_longer_than_keepalive_and_header_timeout(serve):
    async def app(_scope, _receive, send):
        await asyncio.sleep(1.5)
        await apps.answer(send, b"late")

    service = serve(
        app, limits=Limits(header_timeout=1), config={"timeout_keep_alive": 1}
    )
    assert service.ask(GET).body == b"late"


def test_an_app_that_takes_too_long_is_answered_504_and_cancelled(serve, loop):
    cancelled = []

    async def app(_scope, _receive, _send):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    service = serve(app, limits=Limits(request_timeout=0.2), config={"loop": loop})
    answer = service.ask(GET)
    assert (answer.status, answer.closing) == (504, True)
    until(lambda: cancelled and not service.server.server_state.tasks)


def test_a_response_that_takes_too_long_is_cut(serve):
    async def app(_scope, _receive, send):
        await send(apps.start())
        await send(apps.body(b"abc", more=True))
        await asyncio.Event().wait()

    received = serve(app, limits=Limits(request_timeout=1)).connect().send(GET).rest()
    assert b" 200 " in received
    assert not received.endswith(b"0\r\n\r\n")


def test_a_body_that_stalls_is_answered_408(serve, loop):
    service = serve(apps.echo, limits=Limits(body_timeout=0.3), config={"loop": loop})
    answer = service.connect().send(POST + b"abc").answer()
    assert (answer.status, answer.closing) == (408, True)


def test_a_body_that_flows_slowly_is_no_stall(serve):
    service = serve(apps.echo, limits=Limits(body_timeout=1))
    client = service.connect().send(POST)
    client.sock.settimeout(0.15)  # nine times: longer than body_timeout
    for byte in (b"%d" % n for n in range(10)):
        client.send(byte)
        if byte != b"9":
            with pytest.raises(TimeoutError):
                client.sock.recv(1)
    client.sock.settimeout(10)
    assert client.answer().body == b"0123456789"


def test_an_app_that_does_not_read_is_no_stall_of_the_client(serve):
    async def app(_scope, receive, send):
        await asyncio.sleep(1.5)
        await apps.answer(send, b"%d" % len(await apps.read(receive)))

    service = serve(app, limits=Limits(body_timeout=1))
    client = service.connect()
    size = 200_000
    client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"a" * size
    )
    assert client.answer().body == b"200000"


def test_a_client_that_left_has_its_app_cancelled_after_the_grace(serve, loop):
    ended = []

    async def app(_scope, receive, _send):
        await receive()
        await receive()
        ended.append("told")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    service = serve(app, limits=Limits(disconnect_grace=0.1), config={"loop": loop})
    client = service.connect().send(GET)
    until(lambda: any(c.cycle for c in service.connections()))
    client.close()
    until(lambda: ended == ["told", "cancelled"])


def test_work_after_the_response_is_not_cancelled(serve):
    ended = []

    async def app(_scope, _receive, send):
        await apps.answer(send, b"")
        await asyncio.sleep(0.4)
        ended.append(1)

    service = serve(app, limits=Limits(disconnect_grace=0))
    client = service.connect().send(GET)
    assert client.answer().status == 200
    client.close()
    until(lambda: ended)


def test_a_client_that_never_reads_is_dropped(serve, monkeypatch, loop):
    monkeypatch.setattr(service_module, "WRITE_STALL", 0.3)

    async def app(_scope, _receive, send):
        await apps.answer(send, b"x" * (32 << 20))

    service = serve(app, config={"loop": loop, "timeout_keep_alive": 0.2})
    client = service.connect()
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.send(GET)
    until(service.connections)
    until(lambda: not service.connections())


def test_a_client_that_reads_slowly_gets_all_of_it(serve, loop):
    """An idle deadline that counted while data was on its way would cut it off."""
    size = 16 << 20

    async def app(_scope, _receive, send):
        await apps.answer(send, b"x" * size)

    service = serve(app, config={"loop": loop, "timeout_keep_alive": 0.2})
    client = service.connect().send(GET)
    until(lambda: any(c.cycle is None for c in service.connections()))
    (connection,) = service.connections()
    turn = connection.service.clock.turn
    until(lambda: connection.service.clock.turn > turn + 6)
    assert len(client.answer().body) == size


# -- leaving


def test_shutdown_lets_the_response_in_flight_announce_the_close(serve, loop):
    go = asyncio.Event()

    async def app(_scope, _receive, send):
        await go.wait()
        await apps.answer(send, b"done")

    service = serve(app, config={"loop": loop})
    client = service.connect().send(GET)
    until(lambda: any(c.cycle for c in service.connections()))
    service.do(lambda c: (c.shutdown(), go.set()))
    answer = client.answer()
    assert (answer.body, answer.closing) == (b"done", True)
    assert client.rest() == b""


def test_pipelined_requests_are_all_answered_before_the_close(serve):
    go = asyncio.Event()

    async def app(scope, receive, send):
        await go.wait()
        await apps.path(scope, receive, send)

    service = serve(app)
    client = service.connect()
    client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(5)))
    until(lambda: any(c.queue and len(c.queue) == 4 for c in service.connections()))
    service.do(lambda c: (c.shutdown(), go.set()))
    answers = [client.answer() for _ in range(5)]
    assert [a.body for a in answers] == [b"/%d" % n for n in range(5)]
    assert [a.closing for a in answers] == [False] * 4 + [True]


@pytest.mark.parametrize("used", [False, True])
def test_a_request_is_still_answered_in_the_drain_window(serve, loop, used):
    """Idle, or accepted and never heard of: its request may be under way."""
    service = serve(apps.hello, config={"loop": loop})
    client = service.connect()
    if used:
        assert client.send(GET).answer().status == 200
    until(service.connections)
    service.do(lambda c: c.shutdown())
    until(lambda: all(c.draining for c in service.connections()))
    answer = client.send(GET).answer()
    assert (answer.body, answer.closing) == (b"Hello, world!", True)


@pytest.mark.slow
def test_after_the_drain_window_an_idle_connection_is_closed(serve, loop):
    service = serve(apps.hello, config={"loop": loop})
    client = service.connect()
    assert client.send(GET).answer().status == 200
    service.do(lambda c: c.shutdown())
    assert client.rest() == b""


def test_disconnect_is_told_to_the_app_whose_answer_still_arrives(serve):
    async def app(_scope, receive, send):
        await receive()
        message = await receive()
        await apps.answer(send, message["type"].encode())

    service = serve(app)
    client = service.connect().send(GET)
    until(lambda: any(c.cycle and c.cycle.begun for c in service.connections()))
    service.do(lambda c: c.disconnect())
    assert client.answer().body == b"http.disconnect"


def test_cut_answers_503_if_nothing_was_sent(serve, loop):
    service = serve(apps.never, config={"loop": loop})
    client = service.connect().send(GET)
    until(lambda: any(c.cycle and c.cycle.begun for c in service.connections()))
    service.do(lambda c: c.cut())
    answer = client.answer()
    assert (answer.status, answer.closing) == (503, True)
    until(lambda: not service.server.server_state.tasks)


def test_cancelling_the_tasks_alone_answers_503_too(serve):
    service = serve(apps.never)
    client = service.connect().send(GET)
    until(lambda: any(c.cycle and c.cycle.begun for c in service.connections()))
    service.do(lambda c: c.cycle.task.cancel())
    assert client.answer().status == 503


def test_cut_breaks_off_what_was_begun_and_what_is_idle(serve):
    async def app(_scope, _receive, send):
        await send(apps.start())
        await send(apps.body(b"abc", more=True))
        await asyncio.Event().wait()

    service = serve(app)
    idle, client = service.connect(), service.connect().send(GET)
    client.response()
    until(lambda: len(service.connections()) == 2)
    service.do(lambda c: c.cut())
    assert not client.rest().endswith(b"0\r\n\r\n")
    assert idle.rest() == b""


def test_a_head_that_ends_after_its_refusal_is_not_served(serve):
    ran = []

    async def app(scope, receive, send):
        ran.append(1)
        await apps.hello(scope, receive, send)

    service = serve(app, limits=Limits(header_timeout=0.2))
    client = service.connect().send(b"GET / HTTP/1.1\r\nHost: a\r\n")
    assert client.answer().status == 408
    client.send(b"\r\n" + GET)
    assert client.rest() == b""
    assert not ran
