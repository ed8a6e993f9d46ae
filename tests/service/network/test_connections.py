"""What a client may do to its connection, and what it gets, through a real arbiter."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import pytest

from tests.conftest import HELLO, Serve
from tests.tools.apps import SAY
from tests.tools.certificates import Certificates
from tests.tools.service import PATIENCE, Service, wait_for

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def all_of(client: socket.socket) -> bytes:
    """Read until the end; a reset raises."""
    return b"".join(iter(lambda: client.recv(65536), b""))


def ask(service: Service, data: bytes, *, shut: bool = False) -> bytes:
    with service.connect() as client:
        client.sendall(data)
        if shut:
            client.shutdown(socket.SHUT_WR)
        return all_of(client)


def test_a_connection_that_asks_nothing_is_closed_without_a_line(serve: Serve) -> None:
    env = {"UVWORKER_HEADER_TIMEOUT": "1"}
    service = serve(HELLO, "--access-logfile", "-", env=env)
    with service.connect() as client:
        assert all_of(client) == b""
    assert b" 408 " in ask(service, b"GET /half HTTP/1.1\r\n")
    wait_for(lambda: "/half" in service.out, "a line of the half request")
    assert service.out.count("\n") == 1


def test_a_request_without_one_good_host_is_400(serve: Serve) -> None:
    service = serve()
    line, end = b"GET / HTTP/1.1\r\n", b"Connection: close\r\n\r\n"
    bad = b"", b"Host: a\r\nHost: b\r\n", b"Host: a/b\r\n", b"Host: u@a\r\n"
    for fields in bad:
        assert b" 400 " in ask(service, line + fields + end)
    for fields in b"Host:\r\n", b"Host: [::1]:80\r\n":
        assert b" 200 " in ask(service, line + fields + end)
    assert b" 200 " in ask(service, b"GET / HTTP/1.0\r\n\r\n")
    assert "malformed Host 'a/b'" in service.log


@pytest.mark.parametrize(("http", "status"), [("auto", b" 200 "), ("h11", b" 400 ")])
def test_only_h11_sees_a_second_blank_in_the_request_line(
    serve: Serve, http: str, status: bytes
) -> None:
    """RFC 9112 section 3 allows both: httptools skips it, and its callbacks hide it."""
    service = serve(env={"UVICORN_HTTP": http})
    end = b"Host: a\r\nConnection: close\r\n\r\n"
    for line in b"GET  / HTTP/1.1\r\n", b"GET /  HTTP/1.1\r\n":
        assert status in ask(service, line + end)
    assert b" 400 " in ask(service, b"GET\t/ HTTP/1.1\r\n" + end)


def test_a_coding_that_nobody_decodes_is_501(serve: Serve) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
    assert b" 501 " in ask(serve(), head + b"0\r\n\r\n")


ECHO = """
import asyncio

async def app(scope, receive, send):
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    await asyncio.sleep(0.2)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"got " + body})
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_half_closed_client_gets_its_answer(serve: Serve, loop: str) -> None:
    service = serve(ECHO, env={"UVICORN_LOOP": loop})
    post = b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello"
    assert ask(service, post, shut=True).endswith(b"got hello")
    assert b"got " in ask(service, GET, shut=True)


STREAM = (
    SAY
    + """
import asyncio

async def app(scope, receive, send):
    assert scope["type"] == "http"
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"event", "more_body": True})
    say((await receive())["type"])
"""
)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_silent_stream_hears_at_once_that_its_client_left(
    serve: Serve, loop: str
) -> None:
    service = serve(STREAM, "--access-logfile", "-", env={"UVICORN_LOOP": loop})
    with service.connect() as client:
        client.sendall(GET)
        while b"event" not in client.recv(65536):
            pass
    service.wait_said("http.disconnect")
    wait_for(lambda: '"GET / HTTP/1.1" 200' in service.out, "its line")
    assert "ERROR" not in service.log


BIG = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    headers = [(b"content-length", b"8000000")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x" * 8000000})
"""


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ([], b"GET / HTTP/1.0\r\n\r\n"),
        ([], GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")),
        (["--keep-alive", "0"], GET),
        (["--max-requests", "1"], GET),
    ],
)
def test_the_last_answer_is_not_lost_to_a_client_that_goes_on_sending(
    serve: Serve, arguments: list[str], sent: bytes
) -> None:
    service = serve(BIG, *arguments)
    with service.connect() as client:
        client.sendall(sent)
        received = client.recv(1)
        client.sendall(GET * 200)
        received += all_of(client)
    assert received.endswith(b"x" * 8_000_000)


def test_a_stuck_reader_does_not_hold_a_stop(serve: Serve) -> None:
    """Its request's time is over; it had as long as `graceful_timeout` before."""
    env = {"UVWORKER_REQUEST_TIMEOUT": "1"}
    service = serve(BIG, "--graceful-timeout", str(int(10 * PATIENCE)), env=env)
    with service.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(GET)
        client.recv(1)
        assert service.stop() == 0


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01"])
def test_a_stalled_handshake_does_not_hold_a_reload(
    serve: Serve, certificates: Certificates, sent: bytes
) -> None:
    service = serve(HELLO, *certificates.arguments)
    [old] = service.workers()
    with service.connect() as client:
        client.sendall(sent)
        service.kill(signal.SIGHUP)
        service.wait_gone(old)


def test_silent_peers_are_asked_whether_they_live(serve: Serve) -> None:
    service = serve()
    with service.connect() as client:
        client.sendall(GET)
        client.recv(65536)
        local = client.getsockname()[1]
        table = Path("/proc/net/tcp").read_text()
        [timer] = re.findall(
            rf":{service.port:04X} \w+:{local:04X} 01 \S+ (\w\w):", table
        )
        assert timer == "02"  # proc(5): the keepalive timer
