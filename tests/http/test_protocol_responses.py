"""What a client gets of a response, and how an app's mistakes end."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from array import array
from http import HTTPStatus

import pytest

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


@pytest.mark.usefixtures("quick")
def test_a_head_of_known_length_does_not_wait_for_ever(serve, loop):
    """A download that begins slowly is one that has begun."""
    go = asyncio.Event()

    async def app(_scope, _receive, send):
        await send(apps.start(200, (b"content-length", b"4")))
        await go.wait()
        await send(apps.body(b"data"))

    service = serve(app, config={"loop": loop})
    response = service.connect().send(GET).response()
    assert response.getheader("content-length") == "4"
    service.do(lambda _: go.set())
    assert response.read() == b"data"


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
    ("header", "named"),
    [
        *(
            ((b"x-a", value), "header b'x-a' has a line break")
            for value in (b"a\r\nset-cookie: b", b"a\nb", b"a\x00b", b"a\x7f")
        ),
        *(
            ((name, b"v"), f"header {name!r} is empty or")
            for name in (b"", b" ", b"a b", b"a:", b"a\r\nb", b"\xe9", b"a(")
        ),
        *(
            (
                (b"content-length", value),
                "content-length is not a number, or there are two",
            )
            for value in (b"+3", b"3, 3", b"", b"-1")
        ),
        (("x-a", b"v"), "header 'x-a' is not bytes but str"),
        ((None, b"v"), "header None is not bytes but NoneType"),
        *(
            ((b"x-a", value), f"header b'x-a' is not bytes but {type(value).__name__}")
            for value in ("v", 3, None, [b"v"])
        ),
        *(
            ((name, "v"), f"header {name!r} is not bytes but str")
            for name in (b"content-length", b"transfer-encoding", b"connection")
        ),
        (b"x-a", "not a pair of name and value but bytes"),
        ((b"x-a",), "not a pair of name and value but tuple"),
        (None, "not a pair of name and value but NoneType"),
    ],
)
@pytest.mark.parametrize("record", [None, lambda _record: None], ids=["", "recorded"])
def test_a_head_that_cannot_be_sent_is_a_500_and_named(
    serve, header, named, record, caplog
):
    """Nothing has gone out yet; the log says which header of which path."""
    app = apps.sending(apps.start(200, header), apps.body(b"abc"))
    answer = serve(app, record=record).ask(GET.replace(b"/ ", b"/where "))
    assert (answer.status, answer.closing) == (500, True)
    assert "The response to GET '/where' cannot be sent" in caplog.text
    assert named in caplog.text


@pytest.mark.parametrize(
    ("start", "named"),
    [
        *(
            ({"status": status}, f"its status, {status!r}, is not a number from")
            for status in ("200", 99, 600, 1000, None, b"200", [200], 0, -1)
        ),
        ({}, "its status, None, is not"),
        ({"status": 200, "headers": None}, "its headers are not pairs but NoneType"),
        ({"status": 200, "headers": {b"x-a": b"v"}}, "a header is not a pair"),
    ],
)
def test_a_start_that_cannot_be_sent_is_a_500_and_named(serve, start, named, caplog):
    app = apps.sending({"type": "http.response.start", **start}, apps.body(b"abc"))
    assert serve(app).ask(GET).status == 500
    assert named in caplog.text


def test_an_app_may_begin_anew_after_a_head_that_cannot_be_sent(serve):
    async def app(_scope, _receive, send):
        with contextlib.suppress(RuntimeError):
            await send(apps.start(200, (b"x", b"a\nb")))
        await apps.answer(send, b"fine")

    assert serve(app).ask(GET).body == b"fine"


@pytest.mark.parametrize("status", [HTTPStatus.CREATED, 299, 599])
@pytest.mark.parametrize(
    "pairs",
    [
        [[b"Content-Length", b"2"], [b"X-A", b"1"]],
        ((b"content-length", b"2"), (b"x-a", b"1")),
        [(b"content-length", bytearray(b"2")), (b"x-a", memoryview(b"1"))],
    ],
)
@pytest.mark.parametrize("shape", [list, iter])
def test_heads_of_every_shape_arrive(serve, status, pairs, shape):
    seen = []
    app = apps.sending(
        {"type": "http.response.start", "status": status, "headers": shape(pairs)},
        apps.body(b"ok"),
    )
    answer = serve(app, record=seen.append).ask(GET)
    assert (answer.status, answer.headers["x-a"], answer.body) == (status, "1", b"ok")
    until(lambda: seen)
    assert str(seen[0].status) == str(int(status))  # no enum's name in a log


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"Server", b"mine"),
        (b"date", b"Mon, 02 Mar 2026 10:00:00 GMT"),
        (b"SERVER", b""),
    ],
)
def test_the_apps_own_server_and_date_replace_ours(serve, name, value):
    app = apps.sending(apps.start(200, (name, value)), apps.body(b""))
    service = serve(app)
    until(lambda: service.server.server_state.default_headers)
    answer = service.ask(GET)
    assert sorted({"server", "date"} & set(answer.names)) == ["date", "server"]
    assert answer.names.count("server") == answer.names.count("date") == 1
    assert answer.headers[name.decode().lower()] == value.decode()


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
    client.send(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: " + sent.encode() + b"\r\n\r\n"
    )
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


def _wide(data):
    return memoryview(data).cast("Q")


def _sparse(data):
    wide = bytearray(2 * len(data))
    wide[::2] = data
    return memoryview(wide)[::2]


@pytest.mark.parametrize(
    "kind", [bytes, bytearray, memoryview, _wide, _sparse, lambda d: array("B", d)]
)
@pytest.mark.parametrize("size", [8, 20_000, 80_000])
@pytest.mark.parametrize("framed", [True, False])
def test_bodies_of_every_kind_arrive_well_framed(serve, loop, kind, size, framed):
    """Also where the client is slow, and the transport holds what the app sent."""
    pieces = [bytes([number]) * size for number in range(1, 51)]
    headers = [(b"content-length", b"%d" % (size * len(pieces)))] if framed else []

    async def app(_scope, _receive, send):
        await send(apps.start(200, *headers))
        for piece in pieces:
            await send(apps.body(kind(piece), more=True))
        await send(apps.body())

    client = serve(app, config={"loop": loop}).connect().send(GET * 2)
    assert client.answer().body == client.answer().body == b"".join(pieces)


@pytest.mark.parametrize("seen", [memoryview, lambda buffer: buffer])
@pytest.mark.parametrize("size", [1000, 100_000])
def test_what_is_in_a_buffer_at_the_moment_of_send_arrives(serve, loop, seen, size):
    async def app(_scope, _receive, send):
        buffer = bytearray(size)
        body = seen(buffer)
        await send(apps.start(200))
        for number in range(1, 61):
            buffer[:] = bytes([number]) * size
            await send(apps.body(body, more=True))
        buffer[:] = bytes(size)
        await send(apps.body())

    answer = serve(app, config={"loop": loop}).ask(GET)
    assert answer.body == b"".join(bytes([n]) * size for n in range(1, 61))


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


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks do not count it")
def test_a_cancellation_that_leaks_out_of_an_app_has_its_traceback(serve, caplog):
    """The app awaited something that was cancelled; it is not cancelled itself."""

    async def app(_scope, _receive, _send):
        task = asyncio.ensure_future(asyncio.sleep(60))
        asyncio.get_running_loop().call_soon(task.cancel)
        await task

    assert serve(app).ask(GET).status == 503
    [record] = caplog.records
    assert (record.levelname, record.exc_info[0]) == ("ERROR", asyncio.CancelledError)


SHORT = (b"content-length", b"1")


@pytest.mark.parametrize(
    "messages",
    [
        [apps.start()],
        [apps.start(), apps.body(b"a", more=True)],
        [apps.start(), apps.body(b"a", more=True), apps.start()],
        [apps.start(), apps.body(b"a", more=True), apps.body("b")],
        [apps.start(200, (b"content-length", b"5")), apps.body(b"a")],
        [apps.start(200, SHORT), apps.body(b"a", more=True), apps.body(b"bc")],
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


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([apps.start(), apps.start()], "Expected ASGI message"),
        ([apps.start(), apps.body("a")], "to GET '/' is not bytes but str."),
        ([apps.start(200, SHORT), apps.body(None)], "is not bytes but NoneType."),
        ([apps.start(200, SHORT), apps.body([97])], "is not bytes but list."),
        ([apps.start(200, SHORT), apps.body(1, more=True)], "is not bytes but int."),
        ([apps.start(200, SHORT), apps.body(b"abc")], "longer than Content-Length"),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_response_that_fails_before_its_head_is_out_becomes_a_500(
    serve, caplog, messages, said, method
):
    records = []
    service = serve(apps.sending(*messages), record=records.append)
    said = said.replace("GET", method.decode())
    answer = service.connect().send(GET.replace(b"GET", method)).answer()
    assert (answer.status, answer.closing) == (500, True)
    until(lambda: [record.status for record in records] == [500])
    assert said in caplog.text


def test_an_app_may_correct_a_body_that_is_refused(serve):
    async def app(_scope, _receive, send):
        await send(apps.start(200, SHORT))
        with pytest.raises(TypeError):
            await send(apps.body("a"))
        await send(apps.body(b"a"))

    assert serve(app).ask(GET).body == b"a"


def test_an_error_after_the_response_leaves_the_connection_alone(serve, caplog):
    async def app(_scope, _receive, send):
        await apps.answer(send, b"done")
        raise ValueError("in the background")

    client = serve(app).connect()
    for _ in range(2):
        answer = client.send(GET).answer()
        assert (answer.body, answer.closing) == (b"done", False)
    assert "in the background" in caplog.text


async def _fails_in_a_task_group(_scope, _receive, _send):
    """Fail as behind Starlette's BaseHTTPMiddleware, which unpacks its task group."""
    error, group = ValueError("in the group"), RuntimeError("a group of one")
    group.exceptions = (error,)  # ExceptionGroup is newer than Python 3.10
    try:
        raise group
    except RuntimeError:
        raise error  # noqa: B904 - its context is the point


def test_an_error_that_is_raised_out_of_its_own_group_is_logged(serve, caplog):
    """Its context is the group that contains it: a circle."""
    answer = serve(_fails_in_a_task_group).connect().send(GET).answer()
    assert answer.status == 500
    assert "ValueError: in the group" in caplog.text


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


def test_whether_a_record_is_wanted_is_asked_once_a_connection(serve):
    """A request pays for none that nobody wants; a listener may come amid one."""
    records, wanted, asked = [], [], []

    def is_wanted():
        asked.append(None)
        return bool(wanted)

    service = serve(apps.hello, record=records.append, wanted=is_wanted)
    client = service.connect()
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for _ in range(3):
        client.send(request).answer()
    assert (len(asked), records) == (1, [])
    client.send(request[:-2])  # its head ends after somebody has begun to listen
    wanted.append(True)
    service.ask(request)
    until(lambda: len(records) == 1)
    client.send(b"\r\n").answer()
    until(lambda: len(records) == 2)
    wanted.clear()
    service.ask(request)
    client.send(request).answer()
    assert (len(asked), len(records)) == (3, 2)
