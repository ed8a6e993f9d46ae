"""What an app is told of a request."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from uvworker.http.protocol import HTTPProtocol

from . import apps
from .conftest import until

HOST = b"Host: example.org\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"


def scope_of(service, request: bytes) -> dict:
    return json.loads(service.ask(request).body)


def test_the_scope_is_what_asgi_says(serve, loop):
    service = serve(apps.show, config={"loop": loop})
    scope = scope_of(
        service,
        b"GET /a%20b/%C3%A9?x=%20&y HTTP/1.1\r\nHost: h\r\nX-Name:  v \t\r\n\r\n",
    )
    assert scope.pop("client")[0] == "127.0.0.1"
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ["127.0.0.1", service.port],
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": "/a b/é",
        "raw_path": "/a%20b/%C3%A9",
        "query_string": "x=%20&y",
        "headers": [["host", "h"], ["x-name", "v"]],
        "state": {},
        "extensions": {"http.response.pathsend": {}, "http.response.early_hint": {}},
    }


def test_the_bare_class_is_an_http_option_of_uvicorn(serve):
    assert serve(apps.hello, http=HTTPProtocol).ask(GET).body == b"Hello, world!"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"//a", "//a", ""),
        (b"/a?b?c", "/a", "b?c"),
        (b"/a#b?c", "/a", ""),
        (b"*", "*", ""),
        (b"http://host?x", "/", "x"),
        (b"http://host", "/", ""),
        (b"http://host/a?b", "/a", "b"),
    ],
)
def test_every_form_of_target_has_a_path(serve, target, path, query):
    service = serve(apps.show)
    scope = scope_of(service, b"OPTIONS " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (scope["path"], scope["query_string"]) == (path, query)


def test_root_path_is_put_before_the_path(serve):
    service = serve(apps.show, config={"root_path": "/app"})
    scope = scope_of(service, b"GET /one%2Ftwo HTTP/1.1\r\nHost: h\r\n\r\n")
    assert scope["root_path"] == "/app"
    assert scope["path"] == "/app/one/two"
    assert scope["raw_path"] == "/app/one%2Ftwo"


def test_a_unix_socket_has_no_client(serve, tmp_path, loop):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    service = serve(apps.show, listener=listener, config={"loop": loop})
    scope = scope_of(service, GET)
    assert scope["client"] is None
    assert scope["server"] == [str(tmp_path / "s"), None]


def test_each_request_has_a_state_of_its_own(serve):
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["n"] = 1
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        n = scope["state"]["n"]
        scope["state"]["n"] = 5
        await apps.answer(send, b"%d" % n)

    service = serve(app, config={"lifespan": "on"})
    client = service.connect()
    for _ in range(2):
        assert client.send(GET).answer().body == b"1"


def test_a_body_arrives_whole_in_whatever_pieces_it_came(serve, loop):
    service = serve(apps.echo, config={"loop": loop})
    data = bytes(range(256)) * 4096  # 1 MB
    client = service.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(data))
    assert client.send(data).answer().body == data
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    for piece in (data[:1], data[1:70000], data[70000:]):
        client.send(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece))
    assert client.send(b"0\r\n\r\n").answer().body == data


def test_a_client_waits_when_the_app_does_not_read(serve, loop):
    """Back-pressure: what is sent is not read until the app asks for it."""
    go = asyncio.Event()

    async def app(_scope, receive, send):
        await go.wait()
        await apps.answer(send, b"%d" % len(await apps.read(receive)))

    service = serve(app, config={"loop": loop})
    size = 32 << 20
    client = service.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    client.sock.settimeout(0.5)
    with pytest.raises(TimeoutError):
        client.flood()
    sent = client.flooded
    (connection,) = service.connections()
    assert connection.cycle.buffered < 1 << 20
    assert sent < size
    connection.loop.call_soon_threadsafe(go.set)
    client.sock.settimeout(10)
    client.send(b"x" * (size - sent))
    assert client.answer().body == b"%d" % size


def test_pipelined_requests_are_answered_in_order(serve, loop):
    async def app(scope, receive, send):
        await asyncio.sleep(0.05 if scope["path"] == "/0" else 0)
        await apps.path(scope, receive, send)

    client = serve(app, config={"loop": loop}).connect()
    client.send(
        b"".join(
            b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" % n
            for n in range(20)
        )
    )
    assert [client.answer().body for _ in range(20)] == [b"/%d" % n for n in range(20)]


def test_more_pipelined_requests_than_fit_are_left_with_an_announced_close(serve):
    client = serve(apps.hello).connect()
    client.send(GET * 1000)
    answers = 1
    while not client.answer().closing:
        answers += 1
    assert 100 < answers < 1000
    assert client.rest() == b""


def test_a_refused_request_is_answered_behind_those_before_it(serve):
    async def app(_scope, _receive, send):
        await asyncio.sleep(0.05)
        await apps.answer(send, b"first")

    client = serve(app).connect()
    client.send(GET + b"BAD\r\n\r\n")
    first = client.answer()
    assert (first.status, first.body, first.closing) == (200, b"first", False)
    second = client.answer()
    assert (second.status, second.closing) == (400, True)
    assert client.rest() == b""


def test_continue_is_sent_only_when_the_app_asks_for_the_body(serve, loop):
    service = serve(apps.echo, config={"loop": loop})
    head = b"POST / HTTP/1.1\r\n" + HOST
    head += b"Expect: 100-Continue\r\nContent-Length: 3\r\n\r\n"
    client = service.connect().send(head)
    assert client.line() == b"HTTP/1.1 100 Continue\r\n"
    assert client.line() == b"\r\n"
    answer = client.send(b"abc").answer()
    assert (answer.body, answer.closing) == (b"abc", False)


def test_without_continue_the_connection_ends(serve):
    """The next bytes could be the body or a request: nobody can know."""
    head = b"POST / HTTP/1.1\r\n" + HOST
    head += b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    answer = serve(apps.hello).ask(head)
    assert (answer.status, answer.closing) == (200, True)


def test_trailers_never_get_among_the_headers(serve):
    seen = []

    async def app(scope, receive, send):
        await apps.read(receive)
        seen.append(scope["headers"])
        await apps.hello(scope, receive, send)

    client = serve(app).connect()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    client.send(head + b"1\r\na\r\n0\r\nX-Evil: 1\r\n\r\n" + GET)
    assert [client.answer().status, client.answer().status] == [200, 200]
    chunked = [(b"host", b"a"), (b"transfer-encoding", b"chunked")]
    assert seen == [chunked, [(b"host", b"example.org")]]


def test_a_body_that_nobody_wanted_is_dropped(serve, loop):
    client = serve(apps.hello, config={"loop": loop}).connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n")
    assert client.answer().status == 200
    client.send(b"x" * 300000 + GET)
    assert client.answer().status == 200


def test_receive_says_disconnect_after_the_response(serve):
    after = []

    async def app(scope, receive, send):
        await apps.hello(scope, receive, send)
        after.append(await receive())

    service = serve(app)
    assert service.ask(GET).status == 200
    until(lambda: after)
    assert after == [{"type": "http.disconnect"}]


def test_several_tasks_may_wait_in_receive(serve):
    """Frameworks watch for the disconnect beside the app, and cancel the watcher."""

    async def app(_scope, receive, send):
        watcher = asyncio.ensure_future(receive())
        other = asyncio.ensure_future(apps.read(receive))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        watcher.cancel()
        await apps.answer(send, await other)

    service = serve(app)
    client = service.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
    until(
        lambda: any(each.cycle.changed for each in service.connections() if each.cycle)
    )
    assert client.send(b"abc").answer().body == b"abc"
