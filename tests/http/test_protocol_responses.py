"""What a client gets of a response, and how an app's mistakes end."""

from __future__ import annotations

import asyncio
import sys

import pytest

from uvworker.http.cycle import ClientDisconnected

from . import apps
from .conftest import until
from .test_protocol_requests import GET, HOST

HEAD = b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n"
GET_10 = b"GET / HTTP/1.0\r\n" + HOST + b"\r\n"


def test_head_and_first_body_are_one_write(serve, loop):
    """One segment on the wire: what half of the speed comes from."""
    client = serve(apps.hello, config={"loop": loop}).connect().send(GET)
    assert client.sock.recv(65536).endswith(b"\r\n\r\nHello, world!")


def test_a_head_of_known_length_waits_for_its_body(serve, loop):
    async def app(_scope, _receive, send):
        await send(apps.start(200, (b"content-length", b"4")))
        await asyncio.sleep(0.1)
        await send(apps.body(b"data"))

    client = serve(app, config={"loop": loop}).connect().send(GET)
    assert client.sock.recv(65536).endswith(b"\r\n\r\ndata")


def test_the_head_of_a_stream_does_not_wait_for_a_late_body(serve, loop):
    """An event stream's client wants to know at once that it is connected."""
    go = asyncio.Event()

    async def app(_scope, _receive, send):
        await send(apps.start(200, (b"content-type", b"text/event-stream")))
        await go.wait()
        await send(apps.body(b"data"))

    service = serve(app, config={"loop": loop})
    response = service.connect().send(GET).response()
    assert response.getheader("content-type") == "text/event-stream"
    service.do(lambda _: go.set())
    assert response.read() == b"data"


def test_a_stream_is_chunked_and_keeps_the_connection(serve, loop):
    app = apps.sending(
        apps.start(),
        apps.body(b"a", more=True),
        apps.body(b"", more=True),
        apps.body(b"bc", more=True),
        apps.body(),
    )
    client = serve(app, config={"loop": loop}).connect().send(GET + GET)
    for _ in range(2):
        answer = client.answer()
        assert answer.headers["transfer-encoding"] == "chunked"
        assert (answer.body, answer.closing) == (b"abc", False)


def test_a_1_0_client_gets_no_chunks(serve, loop):
    app = apps.sending(
        apps.start(200, (b"transfer-encoding", b"chunked")),
        apps.body(b"a", more=True),
        apps.body(b"bc"),
    )
    client = serve(app, config={"loop": loop}).connect().send(GET_10)
    head, _, body = client.rest().partition(b"\r\n\r\n")
    assert body == b"abc"
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head


def test_half_a_body_does_not_look_whole_to_a_1_0_client(serve, loop):
    async def app(_scope, _receive, send):
        await send(apps.start())
        await send(apps.body(b"half", more=True))
        raise ValueError

    client = serve(app, config={"loop": loop}).connect().send(GET_10)
    with pytest.raises(ConnectionResetError):
        list(iter(lambda: client.sock.recv(65536), b""))


@pytest.mark.parametrize(
    ("status", "method", "headers"),
    [
        (200, "HEAD", [(b"content-length", b"5")]),
        (200, "HEAD", []),
        (204, "GET", []),
        (204, "GET", [(b"content-length", b"0")]),
        (204, "GET", [(b"transfer-encoding", b"chunked")]),
        (304, "GET", [(b"content-length", b"5")]),
        (304, "GET", []),
    ],
)
def test_what_has_no_body_gets_none(serve, status, method, headers):
    body = b"hello" if method == "HEAD" else b""
    app = apps.sending(apps.start(status, *headers), apps.body(body))
    client = serve(app).connect()
    client.send((HEAD if method == "HEAD" else GET) * 2)
    for _ in range(2):
        answer = client.answer(method)
        assert (answer.status, answer.body) == (status, b"")
        assert "transfer-encoding" not in answer.headers
        if status == 204:
            assert "content-length" not in answer.headers


@pytest.mark.parametrize("request_", [HEAD, HEAD.replace(b"1.1", b"1.0")])
def test_a_head_response_carries_the_length_it_would_have(serve, request_):
    answer = serve(apps.hello).ask(request_, "HEAD")
    assert answer.headers["content-length"] == "13"


@pytest.mark.parametrize(
    ("headers", "framing"),
    [
        ([(b"Content-Length", b"3")] * 2, {"content-length": "3"}),
        (
            [(b"Content-Length", b"3"), (b"Transfer-Encoding", b"chunked")],
            {"transfer-encoding": "chunked"},
        ),
        (
            [(b"Transfer-Encoding", b"Chunked"), (b"Content-Length", b"9")],
            {"transfer-encoding": "chunked"},
        ),
        ([(b"Transfer-Encoding", b"chunked")] * 2, {"transfer-encoding": "chunked"}),
    ],
)
def test_a_response_is_framed_once_whatever_the_app_says(serve, headers, framing):
    app = apps.sending(apps.start(200, *headers), apps.body(b"abc"))
    answer = serve(app).ask(GET)
    assert answer.body == b"abc"
    names = {"content-length", "transfer-encoding"}
    assert {n: v for n, v in answer.headers.items() if n in names} == framing
    assert len(names & set(answer.names)) == 1


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b"a\r\nset-cookie: b"),
        (b"x", b"a\nb"),
        (b"x", b"a\x00b"),
        (b"x", b"a\x7f"),
        *((name, b"v") for name in (b"", b"a b", b"a:", b"a\r\nb", b"\xe9", b"a(")),
        (b"content-length", b"+3"),
        (b"content-length", b"3, 3"),
        (b"content-length", b""),
    ],
)
def test_a_header_that_would_not_arrive_as_meant_is_refused(serve, header, caplog):
    app = apps.sending(apps.start(200, header), apps.body(b"abc"))
    assert serve(app).connect().send(GET).rest() == b""
    assert "Invalid HTTP header" in caplog.text


def test_values_may_have_tabs_spaces_and_other_tongues(serve):
    value = "<\t µ>".encode()
    app = apps.sending(apps.start(200, (b"X", value)), apps.body(b""))
    assert (
        b"\r\nx: " + value + b"\r\n"
        in serve(app)
        .connect()
        .send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        .rest()
    )


def test_headers_may_come_from_an_iterator(serve):
    async def app(_scope, _receive, send):
        headers = iter([(b"x-a", b"1"), (b"content-length", b"0")])
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(apps.body())

    assert serve(app).ask(GET).headers["x-a"] == "1"


@pytest.mark.parametrize(
    ("sent", "received", "kept"),
    [
        ("close", [], ["close"]),
        ("keep-alive, Close", [], ["close"]),
        ("close", [(b"Connection", b"close")], ["close"]),
        ("keep-alive", [(b"connection", b"keep-alive, Close")], ["keep-alive, Close"]),
    ],
)
def test_a_close_is_announced_exactly_once(serve, sent, received, kept):
    app = apps.sending(apps.start(200, *received), apps.body(b""))
    client = serve(app).connect()
    client.send(b"GET / HTTP/1.1\r\nConnection: " + sent.encode() + b"\r\n\r\n")
    response = client.response()
    found = [v for n, v in response.getheaders() if n.lower() == "connection"]
    assert found == kept
    response.read()
    assert client.rest() == b""


def test_keepalive_0_announces_the_close(serve):
    service = serve(apps.hello, config={"timeout_keep_alive": 0})
    client = service.connect().send(GET)
    assert client.answer().closing
    assert client.rest() == b""


def test_an_app_waits_for_a_client_that_reads_slowly(serve, loop):
    sent = []

    async def app(_scope, _receive, send):
        await send(apps.start())
        for _ in range(512):
            await send(apps.body(b"x" * 65536, more=True))
            sent.append(1)
        await send(apps.body())

    service = serve(app, config={"loop": loop})
    client = service.connect().send(GET)
    until(lambda: sent and service.connections()[0].gate is not None)
    assert len(sent) < 500
    assert len(client.answer().body) == 512 * 65536


def test_big_and_small_bodies_of_every_kind_arrive(serve, loop):
    data = bytes(range(256)) * 1024

    async def app(_scope, _receive, send):
        await send(apps.start(200, (b"content-length", b"%d" % (3 * len(data)))))
        await send(apps.body(data, more=True))
        await send(apps.body(memoryview(data), more=True))
        await send(apps.body(bytearray(data)))

    assert serve(app, config={"loop": loop}).ask(GET).body == 3 * data


# -- an app's mistakes


async def _raises(_scope, _receive, _send):
    raise ValueError


async def _exits(_scope, _receive, _send):
    sys.exit(1)


async def _cancels(_scope, _receive, _send):
    raise asyncio.CancelledError


async def _forgets(_scope, _receive, _send):
    pass


@pytest.mark.parametrize(
    ("app", "status"),
    [
        (_raises, 500),
        (_exits, 500),
        (_forgets, 500),
        (_cancels, 503),
        (apps.sending(apps.body(b"")), 500),
        (apps.sending({"type": "nonsense"}), 500),
        (apps.sending({"type": "http.response.start"}), 500),
    ],
)
def test_an_app_that_fails_before_its_response_is_answered_for(
    serve, loop, app, status
):
    service = serve(app, config={"loop": loop})
    answer = service.ask(GET)
    assert (answer.status, answer.closing) == (status, True)
    assert service.ask(GET).status == status  # and the worker lives


@pytest.mark.parametrize(
    "messages",
    [
        [apps.start()],
        [apps.start(), apps.start()],
        [apps.start(), apps.body(b"a", more=True)],
        [apps.start(200, (b"content-length", b"5")), apps.body(b"a")],
        [apps.start(200, (b"content-length", b"1")), apps.body(b"abc")],
        [apps.start(204), apps.body(b"abc")],
        [apps.start(777), apps.body(b"")],
        [apps.start(200, ("x", "y")), apps.body(b"")],  # type: ignore[arg-type]
        [{"type": "http.response.start", "status": 200, "headers": None}],
    ],
)
@pytest.mark.parametrize("record", [None, lambda _record: None], ids=["", "recorded"])
def test_a_response_that_fails_is_cut_off(serve, messages, record):
    """A response that was started cannot be replaced: the client must see a break."""
    service = serve(apps.sending(*messages), record=record)
    received = service.connect().send(GET).rest()
    assert received.count(b"HTTP/1.1") <= 1
    assert b" 500 " not in received
    assert not received.endswith(b"0\r\n\r\n")


def test_an_error_after_the_response_leaves_the_connection_alone(serve, caplog):
    async def app(_scope, _receive, send):
        await apps.answer(send, b"done")
        raise ValueError("in the background")

    client = serve(app).connect()
    for _ in range(2):
        answer = client.send(GET).answer()
        assert (answer.body, answer.closing) == (b"done", False)
    assert "in the background" in caplog.text


def test_a_message_after_the_response_is_an_error_of_the_app(serve, caplog):
    app = apps.sending(apps.start(), apps.body(), apps.body())
    service = serve(app)
    assert service.ask(GET).status == 200
    until(lambda: "after response already completed" in caplog.text)


def test_a_returned_value_is_reported(serve, caplog):
    async def app(_scope, _receive, send):
        await apps.answer(send, b"")
        return 123

    assert serve(app).ask(GET).status == 200
    until(lambda: "should return None, but returned '123'" in caplog.text)


def test_the_error_for_a_client_that_left_is_an_os_error():
    assert issubclass(ClientDisconnected, OSError)


def test_date_and_server_are_kept_fresh(serve):
    service = serve(apps.hello)
    until(lambda: service.server.server_state.default_headers)
    answer = service.ask(GET)
    assert answer.headers["server"] == "uvicorn"
    service.do(
        lambda c: setattr(c.server_state, "default_headers", [(b"server", b"new")])
    )
    service.server.config.encoded_headers = [(b"server", b"new")]
    client = service.connect()
    until(lambda: client.send(GET).answer().headers["server"] == "new")
