"""Early hints and trailers: what an app sends before its head and behind its body."""

from __future__ import annotations

import json

import pytest

from .apps import body, sending, show, start
from .conftest import until

HINT = {
    "type": "http.response.early_hint",
    "links": [b"</a.css>; rel=preload", b"</b.js>; rel=preload"],
}
HINTED = (
    b"HTTP/1.1 103 Early Hints\r\n"
    b"link: </a.css>; rel=preload\r\nlink: </b.js>; rel=preload\r\n\r\n"
)

GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
TE = GET.replace(b"\r\n\r\n", b", TE\r\nTE: trailers\r\n\r\n")
OLD = b"GET / HTTP/1.0\r\n\r\n"

TRAILED = {**start(200, (b"trailer", b"x-sum")), "trailers": True}
LENGTH = b"content-length", b"4"


def trailers(*headers: tuple[bytes, bytes], more: bool = False) -> dict[str, object]:
    return {
        "type": "http.response.trailers",
        "headers": list(headers),
        "more_trailers": more,
    }


SUM = trailers((b"x-sum", b"1"))


@pytest.mark.parametrize(
    ("te", "takes"),
    [
        ("trailers", True),
        ("Trailers", True),
        ("deflate;q=0.5, trailers", True),
        ("trailers;q=1", True),
        ("", False),
        ("deflate", False),
        ("no-trailers", False),
    ],
)
def test_trailers_are_offered_to_who_asks_for_them(serve, te, takes):
    head = f"GET / HTTP/1.1\r\nHost: a\r\ntE: {te}\r\n\r\n"
    offered = extensions(serve(show).ask(head.encode()))
    assert ("http.response.trailers" in offered) is takes


def test_the_next_request_has_to_ask_for_itself(serve):
    client = serve(show).connect()
    for asks in True, False, True:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"TE: trailers\r\n" * asks)
        offered = extensions(client.send(b"\r\n").answer())
        assert ("http.response.trailers" in offered) is asks


def test_te_beside_a_transfer_coding_is_no_fault(serve):
    answer = serve(show).ask(
        b"POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTE: trailers\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    assert answer.status == 200
    assert "http.response.trailers" in extensions(answer)


def test_a_client_of_http_1_0_is_offered_files_alone(serve):
    answer = serve(show).ask(b"GET / HTTP/1.0\r\nTE: trailers\r\n\r\n")
    assert list(extensions(answer)) == ["http.response.pathsend"]


def test_what_an_app_does_to_its_extensions_is_its_own(serve):
    async def app(scope, receive, send):
        await show(scope, receive, send)
        scope["extensions"].clear()

    client = serve(app).connect()
    for _ in range(2):
        answer = client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").answer()
        assert extensions(answer)


@pytest.mark.parametrize(
    "messages",
    [
        [HINT, start(), body(b"hi")],
        [start(), HINT, body(b"hi")],
        [start(200, (b"content-length", b"2")), HINT, body(b"hi")],
    ],
    ids=["before the start", "behind it", "behind one with a length"],
)
def test_a_hint_goes_before_the_head(serve, messages):
    received = serve(sending(*messages)).connect().send(GET).rest()
    assert received.startswith(HINTED + b"HTTP/1.1 200 OK\r\n")
    assert received.count(b"103") == 1


def test_several_hints_may_be_sent(serve):
    app = sending(HINT, HINT, start(), body())
    received = serve(app).connect().send(GET).rest()
    assert received.startswith(HINTED + HINTED + b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("request_", "messages"),
    [
        (GET, [start(), body(b"hi", more=True), HINT, body()]),
        (GET, [{**HINT, "links": []}, start(), body(b"hi")]),
        (OLD, [HINT, start(), body(b"hi")]),
    ],
    ids=["late", "empty", "HTTP/1.0"],
)
def test_a_hint_that_cannot_be_sent_is_dropped(serve, caplog, request_, messages):
    received = serve(sending(*messages)).connect().send(request_).rest()
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"103" not in received
    assert not caplog.messages


@pytest.mark.parametrize("link", [b"</a>\r\nx: y", b"</a>\0"])
def test_a_hint_splits_no_response(serve, link, caplog):
    app = sending({**HINT, "links": [link]}, start(), body())
    assert serve(app).ask(GET).status == 500
    assert "a value has a control character" in caplog.text


@pytest.mark.parametrize(
    ("messages", "fields"),
    [
        ([SUM], b"x-sum: 1\r\n"),
        ([trailers()], b""),
        (
            [trailers((b"A", b"1"), more=True), trailers((b"b", b"2"))],
            b"a: 1\r\nb: 2\r\n",
        ),
    ],
    ids=["one", "none", "several"],
)
def test_trailers_are_behind_the_last_chunk(serve, messages, fields):
    app = sending(TRAILED, body(b"hi", more=True), body(b"ho"), *messages)
    received = serve(app).connect().send(TE).rest()
    head, _, rest = received.partition(b"\r\n\r\n")
    assert b"\r\ntransfer-encoding: chunked" in head
    assert rest == b"2\r\nhi\r\n2\r\nho\r\n0\r\n" + fields + b"\r\n"


def test_who_does_not_ask_for_trailers_gets_none(serve):
    received = serve(sending(TRAILED, body(b"hi"), SUM)).connect().send(GET).rest()
    assert received.endswith(b"\r\n\r\n2\r\nhi\r\n0\r\n\r\n")


@pytest.mark.parametrize("request_", [TE, OLD])
def test_without_chunks_there_are_none(serve, request_):
    start_ = {**start(200, LENGTH), "trailers": True}
    app = sending(start_, body(b"hi", more=True), body(b"ho"), SUM)
    received = serve(app).connect().send(request_).rest()
    assert received.endswith(b"\r\n\r\nhiho")


def test_the_connection_goes_on_behind_trailers(serve):
    client = serve(sending(TRAILED, body(b"hi"), SUM)).connect()
    request = TE.replace(b"close, ", b"")
    for _ in range(2):
        assert client.send(request).answer().body == b"hi"


def test_head_is_complete_without_trailers(serve):
    client = serve(sending(TRAILED, body(b"hi"), SUM)).connect()
    request = TE.replace(b"GET", b"HEAD").replace(b"close, ", b"")
    for _ in range(2):
        assert client.send(request).answer("HEAD").status == 200


def test_without_sendfile_no_file_is_offered(serve):
    """Frameworks then send its bytes, which every middleware knows."""
    offered = extensions(serve(show, sendfile=False).ask(GET))
    assert "http.response.pathsend" not in offered
    assert "http.response.early_hint" in offered


def test_a_middleware_that_holds_the_start_back_is_named(serve, tmp_path, caplog):
    async def app(_scope, _receive, send):
        path = str(tmp_path)
        await send({"type": "http.response.pathsend", "path": path})

    assert serve(app).ask(GET).status == 500
    assert "a middleware that does not know it holds the start back" in caplog.text


def test_a_file_may_have_trailers(serve, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100_000)
    pathsend = {"type": "http.response.pathsend", "path": str(path)}
    received = serve(sending(TRAILED, pathsend, SUM)).connect().send(TE).rest()
    assert received.partition(b"\r\n\r\n")[2] == (
        b"186a0\r\n" + b"x" * 100_000 + b"\r\n0\r\nx-sum: 1\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([SUM], "Expected ASGI message 'http.response.start'"),
        ([start(), SUM], "Expected ASGI message 'http.response.body'"),
        ([TRAILED, SUM], "Expected ASGI message"),
        ([TRAILED, body(b"hi"), body(b"ho")], "Expected ASGI message 'http.response.t"),
        ([TRAILED, body(b"hi")], "without completing response"),
        ([{**start(200, LENGTH), "trailers": True}, body(b"hi"), SUM], "shorter"),
        ([TRAILED, body(), trailers((b"a", b"b\r\nc: d"))], "a control character"),
        ([TRAILED, body(), trailers((b"a b", b"c"))], "a name is not a token"),
        ([TRAILED, body(), trailers((b"Content-Length", b"1"))], "cannot be a trailer"),
        ([TRAILED, body(), trailers((b"set-cookie", b"1"))], "cannot be a trailer"),
    ],
)
def test_what_has_no_place_is_an_error_of_the_app(serve, messages, said, caplog):
    received = serve(sending(*messages)).connect().send(TE).rest()
    assert not received.endswith(b"0\r\n\r\n")
    until(lambda: said in caplog.text)


def test_a_record_has_no_bytes_of_trailers(serve):
    records = []
    service = serve(sending(TRAILED, body(b"hi"), SUM), record=records.append)
    service.connect().send(TE).rest()
    until(lambda: records)
    assert [(each.status, each.sent) for each in records] == [(200, 2)]


def extensions(answer):
    return json.loads(answer.body)["extensions"]
