"""What is refused: too much, too many, malformed, or open to two readings."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap

import pytest

from uvworker.http import service as service_module
from uvworker.http.forwarded import Forwarding
from uvworker.http.limits import Limits
from uvworker.http.phases import HEAD

from . import apps
from .conftest import until
from .test_protocol_requests import GET, HOST

GUNICORN = Limits(request_line=4094, fields=100, field_size=8190)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /%b HTTP/1.1\r\nHost: a\r\n" % (b"a" * (4094 - 14)), 200),
        (b"GET /%b HTTP/1.1\r\nHost: a\r\n" % (b"a" * (4094 - 13)), 414),
        (b"DELETE /%b HTTP/1.1\r\nHost: a\r\n" % (b"a" * (4094 - 17)), 200),
        (b"DELETE /%b HTTP/1.1\r\nHost: a\r\n" % (b"a" * (4094 - 16)), 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: %b\r\n" % (b"a" * (8190 - 5)), 200),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: %b\r\n" % (b"a" * (8190 - 4)), 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 99, 200),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 100, 431),
    ],
)
def test_gunicorns_limits_hold_to_the_byte(serve, head, status):
    assert serve(apps.hello, limits=GUNICORN).ask(head + b"\r\n").status == status


ENDLESS = {
    "line": (b"GET /", 414),
    "name": (b"GET / HTTP/1.1\r\nHost: a\r\nA", 431),
    "value": (b"GET / HTTP/1.1\r\nHost: a\r\nA: ", 431),
    "extension": (
        (
            b"POST / HTTP/1.1\r\nHost: a\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;a="
        ),
        400,
    ),
    "trailer": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: ",
        400,
    ),
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ENDLESS)
def test_nothing_may_be_endless(serve, loop, kind, monkeypatch):
    monkeypatch.setattr(service_module, "LINGER", 0.1)
    start, status = ENDLESS[kind]
    service = serve(apps.echo, limits=GUNICORN, config={"loop": loop})
    client = service.connect()
    answer = client.send(start + b"a" * 200_000).answer()
    assert (answer.status, answer.closing) == (status, True)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        client.flood()  # and nobody listens to the rest


def test_endless_trailers_are_refused(serve):
    client = serve(apps.echo, limits=GUNICORN).connect()
    client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    )
    assert client.send(b"A: b\r\n" * 200).answer().status == 431


def test_without_limits_a_head_may_be_large(serve):
    head = b"GET /%b HTTP/1.1\r\nHost: a\r\nA: %b\r\n" % (b"a" * 60000, b"b" * 100_000)
    assert serve(apps.hello).ask(head + b"B: c\r\n" * 500 + b"\r\n").status == 200


MEMORY = """
    import resource, socket, sys, threading, time
    import uvicorn
    from uvworker.http.limits import Limits
    from uvworker.http.protocol import HTTPProtocol
    from tests.http.apps import hello

    def rss():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    listener = socket.create_server(("127.0.0.1", 0))
    limits = Limits(request_line=4094, fields=100, field_size=8190)
    server = uvicorn.Server(uvicorn.Config(
        hello, http=HTTPProtocol.configured(limits=limits), proxy_headers=False,
        lifespan="off", loop=sys.argv[1], log_level="critical"))
    threading.Thread(target=server.run, args=([listener],), daemon=True).start()

    PIECE = b"a" * 65536

    def attack(megabytes):
        with socket.create_connection(listener.getsockname()) as client:
            client.sendall(b"GET / HTTP/1.1\\r\\nA: ")
            try:
                for _ in range(megabytes * 16):
                    client.sendall(PIECE)
            except OSError:
                pass

    while not server.started:
        time.sleep(0.01)
    attack(20)  # whatever is imported or allocated on the first occasion
    before = rss()
    attack(100)
    print(rss() - before)
    server.should_exit = True
"""


def test_a_header_of_100_megabytes_costs_no_memory(loop):
    grown = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEMORY), loop],
        capture_output=True,
        check=True,
        timeout=60,
        # glibc's malloc hands back what is freed; else RSS tells what it keeps.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
    ).stdout
    assert int(grown) < 1 << 20


# -- bodies


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n",
        (
            b"POST / HTTP/1.1\r\nHost: a\r\n"
            b"Content-Length: 101\r\nExpect: 100-continue\r\n\r\n"
        ),
        b"POST / HTTP/1.1\r\nHost: a\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n33\r\n%b\r\n32\r\n%b\r\n"
        % (b"a" * 0x33, b"a" * 0x32),
    ],
)
def test_a_body_beyond_the_limit_gets_413(serve, loop, request_):
    service = serve(apps.echo, limits=Limits(max_body_size=100), config={"loop": loop})
    answer = service.ask(request_)
    assert (answer.status, answer.closing) == (413, True)
    fitting = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n" + b"a" * 100
    assert service.ask(fitting).status == 200


def test_a_client_that_still_sends_can_read_its_refusal(serve, loop):
    """A close in the face of it would be a reset, and the answer lost."""
    service = serve(apps.echo, limits=Limits(max_body_size=100), config={"loop": loop})
    client = service.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n")
    for _ in range(20):
        client.send(b"a" * 65536)
    assert client.answer().status == 413
    assert client.rest() == b""


def test_a_refused_body_ends_the_app_that_reads_it(serve):
    told = []

    async def app(_scope, receive, send):
        while (message := await receive())["type"] == "http.request":
            pass
        told.append(message)
        await apps.answer(send, b"never seen")

    service = serve(app, limits=Limits(max_body_size=10))
    client = service.connect()
    client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"
    )
    until(lambda: any(c.cycle and c.cycle.begun for c in service.connections()))
    client.send(b"6\r\nabcdef\r\n")
    assert client.answer().status == 413
    until(lambda: told)


def test_limit_concurrency_is_answered_with_retry_after(serve):
    service = serve(apps.hello, config={"limit_concurrency": 1})
    answer = service.ask(GET)
    assert (answer.status, answer.body) == (503, b"Service Unavailable")
    assert answer.headers["retry-after"]
    assert answer.closing


# -- framing: never two requests out of what a proxy sees as one

POST = b"POST / HTTP/1.1\r\n" + HOST


@pytest.mark.parametrize(
    "attack",
    [
        POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
        POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        POST + b"Content-Length: 1, 1\r\n\r\na",
        POST + b"Content-Length: +1\r\n\r\na",
        POST + b"Content-Length: 0x1\r\n\r\na",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 99999999999999999999\r\n\r\n",
        POST + b"Content-Length:\r\n\r\n",
        POST + b"Content-Length : 1\r\n\r\na",
        POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n gzip\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\na\r\n0\r\n\r\n",
        POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        GET.replace(b"\r\n", b"\n"),
        b"GET / HTTP/1.1\r\nHost: a\r\nA: b\nC: d\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA: b\rC: d\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\n A: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA\x00: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA: b\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA b\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET example HTTP/1.1\r\nHost: a\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"G?T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET / HTTP/0.9\r\nHost: a\r\n\r\n",
        b"GET / HTTP1.1\r\n\r\n",
        b"GET /\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_ambiguous_framing_is_refused_and_never_a_second_request(serve, attack):
    service = serve(apps.hello)
    client = service.connect().send(attack + GET)
    answer = client.answer()
    assert (answer.status, answer.closing) == (400, True)
    assert client.rest() == b""


def test_an_app_does_not_run_for_a_head_that_turns_out_wrong(serve):
    ran = []

    async def app(_scope, _receive, _send):
        ran.append(1)

    service = serve(app)
    assert service.ask(POST + b"Transfer-Encoding: gzip\r\n\r\n").status == 400
    until(lambda: not service.server.server_state.tasks)
    assert not ran


@pytest.mark.parametrize(
    "last", [b"GET / HTTP/1.0\r\nHost: a\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n"]
)
def test_nothing_is_read_behind_the_last_request(serve, last):
    client = serve(apps.hello).connect()
    client.send(last + b"Connection: close\r\n\r\n" + GET * 3)
    assert client.rest().count(b"HTTP/1.1 200") == 1


def test_1_0_serves_a_single_request_whatever_the_client_hopes_for(serve):
    client = serve(apps.hello).connect()
    client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n" + GET)
    assert client.answer().closing
    assert client.rest() == b""


# -- gunicorn's leniency


@pytest.mark.parametrize(
    ("limits", "request_"),
    [
        (
            Limits(permit_obsolete_folding=True),
            b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n",
        ),
        (
            Limits(permit_unconventional_http_version=True),
            b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        ),
        (
            Limits(permit_unconventional_http_version=True),
            b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        ),
        (Limits(casefold_http_method=True), b"get / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ],
)
def test_what_gunicorn_permits_on_request_is_permitted(serve, limits, request_):
    assert serve(apps.show, limits=limits).ask(request_).status == 200


def test_a_method_is_casefolded_in_pieces_too_and_nothing_else_is(serve):
    client = serve(apps.echo, limits=Limits(casefold_http_method=True)).connect()
    for piece in (
        b"po",
        b"st /",
        b"a HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nab",
    ):
        client.send(piece)
        client.sock.setsockopt(6, 1, 1)
    assert client.send(b"cd ef"[:4]).answer().body == b"abcd e"


def test_a_target_that_begins_a_read_keeps_its_case(serve):
    service = serve(apps.path, limits=Limits(casefold_http_method=True))
    client = service.connect()
    client.sock.setsockopt(6, 1, 1)
    client.send(b"get ")
    until(lambda: [c.phase for c in service.connections()] == [HEAD])
    assert client.send(b"/Ab HTTP/1.1\r\nHost: a\r\n\r\n").answer().body == b"/Ab"


def test_header_map_drops_what_a_proxys_header_could_be_forged_with(serve):
    service = serve(apps.show, forwarding=Forwarding.from_settings())
    body = service.ask(
        b"GET / HTTP/1.1\r\nHost: a\r\nX_Real_Ip: 1\r\nX-Real-Ip: 2\r\n\r\n"
    ).body
    assert b"x-real-ip" in body
    assert b"x_real_ip" not in body


def test_header_map_refuse_is_answered_400(serve):
    forwarding = Forwarding.from_settings(header_map="refuse")
    service = serve(apps.show, forwarding=forwarding)
    assert service.ask(b"GET / HTTP/1.1\r\nHost: a\r\nX_Y: 1\r\n\r\n").status == 400


def test_a_trusted_proxy_says_who_the_client_is(serve):
    forwarding = Forwarding.from_settings(
        secure_scheme_headers={"X-FORWARDED-PROTO": "https"}
    )
    request = (
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\n"
        b"X-Forwarded-Proto: https\r\n\r\n"
    )
    trusting = serve(apps.show, forwarding=forwarding)
    body = trusting.ask(request).body
    assert b'"1.2.3.4"' in body
    assert b'"https"' in body
    none = Forwarding.from_settings(forwarded_allow_ips="10.0.0.1")
    assert b'["1.2.3.4"' not in serve(apps.show, forwarding=none).ask(request).body


def test_contradicting_proxy_headers_are_answered_400(serve):
    forwarding = Forwarding.from_settings(
        secure_scheme_headers={"X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"}
    )
    request = b"GET / HTTP/1.1\r\n" + HOST
    request += b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n\r\n"
    assert serve(apps.hello, forwarding=forwarding).ask(request).status == 400


# -- who hears of it


def test_the_log_names_the_peer_and_the_parsers_reason_but_not_for_ever(serve, caplog):
    caplog.set_level(logging.INFO)
    service = serve(apps.hello)
    for _ in range(50):
        assert service.ask(b"BAD\r\n\r\n").status == 400
    refused = [r for r in caplog.messages if r.startswith("Refused")]
    assert refused[0].startswith("Refused a request from 127.0.0.1:")
    assert refused[0].endswith("with 400: Invalid method encountered.")
    assert len(refused) < 50
    assert "Traceback" not in caplog.text


def test_refused_requests_are_recorded(serve):
    records = []
    service = serve(apps.hello, limits=GUNICORN, record=records.append)
    service.ask(b"GET /long%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 5000))
    service.ask(b"GET /a?b HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n")
    service.ask(b"\x16\x03\x01")
    until(lambda: len(records) == 3)  # the answer may be here before its record
    assert [record.status for record in records] == [414, 400, 400]
    scope = records[1].scope
    assert (scope["method"], scope["path"], scope["query_string"]) == (
        "GET",
        "/a",
        b"b",
    )
    assert records[2].scope["method"] == ""
    assert all(record.peer[0] == "127.0.0.1" for record in records)
    assert all(0 <= record.duration < 10 for record in records)


def test_a_record_tells_what_was_sent(serve):
    records = []
    app = apps.sending(
        apps.start(201, (b"x-a", b"b")), apps.body(b"abc", more=True), apps.body(b"de")
    )
    service = serve(app, record=records.append)
    until(lambda: service.server.server_state.default_headers)
    service.ask(b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: records)
    (record,) = records
    assert (record.status, record.sent, record.target) == (201, 5, b"/a?b")
    assert (b"x-a", b"b") in record.headers
    assert b"server" in dict(record.headers)
    assert 0 <= record.duration < 10


def test_a_response_cut_off_by_the_client_is_recorded(serve):
    records = []

    async def app(_scope, receive, send):
        await send(apps.start())
        await send(apps.body(b"abc", more=True))
        await receive()
        await receive()

    client = serve(app, record=records.append).connect().send(GET)
    client.response()
    client.close()
    until(lambda: records)
    assert (records[0].status, records[0].sent) == (200, 3)
