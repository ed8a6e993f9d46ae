"""What holds over HTTP/1.1 holds over HTTP/2, seen by a client that writes frames."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol

import h2.connection
import h2.events
import httpx
import pytest

from tests.conftest import Serve
from tests.tools.http2 import Peer
from tests.tools.service import PATIENCE, Service, gunicorn_lacks, wait_for

pytest.importorskip("zttp", reason="zttp needs Python 3.11")

pytestmark = gunicorn_lacks("http2_cleartext")

H2C = ("--http-protocols", "h2,h1", "--http2-cleartext", "prior-knowledge")

APP = """
import asyncio, os

async def start(send, *headers, status=200):
    await send({"type": "http.response.start", "status": status, "headers": headers})

async def go(sign="go"):
    while not os.path.exists(sign):
        await asyncio.sleep(0.02)

async def drip(receive, send):
    await start(send)
    await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
    while True:
        event = await receive()
        print("heard", event["type"], flush=True)
        if event["type"] == "http.disconnect":
            await send({"type": "http.response.body", "body": b"for nobody"})
            return

async def fill(send):
    for _ in range(32):
        await send({"type": "http.response.body", "body": bytes(32768),
                    "more_body": True})

async def trail(send, status, name):
    await send({"type": "http.response.start", "status": int(status), "headers": [],
                "trailers": True})
    await send({"type": "http.response.body", "body": b"x" * (status != "204")})
    await send({"type": "http.response.early_hint", "links": [b"late"]})
    await send({"type": "http.response.trailers", "headers": [(name.encode(), b"1")]})

async def app(scope, receive, send):
    assert scope["type"] == "http"
    path = scope["path"]
    if path.startswith("/trail/"):
        return await trail(send, *path.split("/")[2:])
    if path == "/drip":
        return await drip(receive, send)
    if path == "/sleep":
        print("slept", flush=True)
        await asyncio.sleep(60)
    if path == "/pour":
        await start(send)
        while True:
            await send({"type": "http.response.body", "body": bytes(16384),
                        "more_body": True})
    if path == "/duplex":
        await start(send)
        await fill(send)
        await receive()
    if path == "/early":
        await start(send, status=413)
        return await send({"type": "http.response.body", "body": bytes(65536)})
    if path == "/hold":
        print("held", flush=True)
        await go()
    if path == "/background":
        await start(send)
        await send({"type": "http.response.body", "body": b""})
        return await go()
    if path == "/late":
        await go()
        await start(send)
        await send({"type": "http.response.body", "body": b""})
        await go("left")
        while (await receive())["type"] != "http.disconnect":
            pass
        return print("disconnect", flush=True)
    body = b""
    while path != "/ignore":
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    if path == "/fields":
        await start(send, (b"Connection", b"close"), (b"X-Up", b" up "),
                    (b"Server", b"mine"), (b"keep-alive", b"5"),
                    (b"transfer-encoding", b"chunked"), (b"upgrade", b"x"))
    elif path.startswith("/status/"):
        await start(send, status=int(path[8:]))
        body = b"no body"
    elif path == "/big":
        await start(send)
        for _ in range(64):
            await send({"type": "http.response.body", "body": bytes(65536),
                        "more_body": True})
        print("all sent", flush=True)
    elif path.startswith("/pieces/"):
        print("begun", flush=True)
        await start(send)
        piece = bytes(int(path[8:]))
        for _ in range((64 << 20) // len(piece)):
            await send({"type": "http.response.body", "body": piece,
                        "more_body": True})
        print("all sent", flush=True)
    elif path == "/two":
        await start(send)
        await asyncio.gather(fill(send), fill(send))
    elif path == "/crash":
        await start(send)
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise ValueError("of the app")
    else:
        await start(send)
    await send({"type": "http.response.body", "body": body})
"""


class Begin(Protocol):
    """Start a service, and connect."""

    def __call__(self, *settings: str, **options: str) -> tuple[Service, Peer]: ...


@pytest.fixture
def begin(serve: Serve) -> Iterator[Begin]:
    peers = []

    def begin(*settings: str, **options: str) -> tuple[Service, Peer]:
        env = {f"UVWORKER_{name.upper()}": value for name, value in options.items()}
        service = serve(APP, *H2C, "--access-logfile", "access.log", *settings, env=env)
        peers.append(Peer(service.connect()))
        return service, peers[-1]

    yield begin
    for peer in peers:
        peer.sock.close()


def heard(service: Service, what: str, times: int = 1) -> None:
    """Wait until the app printed *what*."""
    wait_for(lambda: service.out.count(what) >= times, f"{times} x {what!r} printed")


def logged(service: Service) -> str:
    return (service.directory / "access.log").read_text()


def test_a_trusted_peer_speaks_http_2_without_tls(begin: Begin) -> None:
    service, peer = begin()
    assert peer.answer(peer.ask("/", "POST", [("content-length", "0")])) == (200, b"")
    assert service.get().status_code == 400  # gunicorn: a peer that is misconfigured
    assert service.stop() == 0
    assert '"POST / HTTP/2" 200' in logged(service)


def test_a_preface_may_come_in_pieces(serve: Serve) -> None:
    service = serve(APP, *H2C)
    with service.connect() as sock:
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":
            sock.sendall(bytes((byte,)))
        assert sock.recv(9)[3] == 4  # SETTINGS


UPGRADE = (
    b"%b /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"Upgrade: h2c\r\nHTTP2-Settings: %b\r\n%b\r\n"
)


@pytest.mark.parametrize("mechanism", ["upgrade", "both"])
def test_a_request_is_upgraded_to_http_2(serve: Serve, mechanism: str) -> None:
    service = serve(APP, *H2C[:2], "--http2-cleartext", mechanism)
    with service.connect() as sock:
        connection = h2.connection.H2Connection()
        settings = connection.initiate_upgrade_connection()
        sock.sendall(UPGRADE % (b"GET", settings, b""))
        data = sock.recv(65536)
        while b"\r\n\r\n" not in data:
            data += sock.recv(65536)
        head, _, data = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101")
        sock.sendall(connection.data_to_send())
        events = connection.receive_data(data)
        while not any(isinstance(e, h2.events.StreamEnded) for e in events):
            events += connection.receive_data(sock.recv(65536))
    assert service.get().status_code == 200


@pytest.mark.parametrize(
    "request_",
    [
        (b"POST", b"AAMAAABkAAQAAP__", b"Content-Length: 1\r\n"),
        (b"GET", b"!", b""),
        (b"GET", b"AAMAAABkAAQAAP__", b"HTTP2-Settings: AAMAAABk\r\n"),
    ],
)
def test_an_upgrade_that_cannot_be_is_declined(
    serve: Serve, request_: tuple[bytes, bytes, bytes]
) -> None:
    service = serve(APP, *H2C[:2], "--http2-cleartext", "upgrade")
    with service.connect() as sock:
        sock.sendall(UPGRADE % request_ + b"x")
        assert sock.recv(12) == b"HTTP/1.1 200"


def test_a_peer_that_is_not_trusted_speaks_http_1_alone(begin: Begin) -> None:
    service, peer = begin("--forwarded-allow-ips", "192.0.2.1")
    assert service.get().status_code == 200
    assert peer.sock.recv(12) == b"HTTP/1.1 400"


def test_a_body_that_is_too_long_is_413(begin: Begin) -> None:
    service, peer = begin(max_body_size="10")
    announced = peer.ask("/", "POST", [("content-length", "11")], end=False)
    assert peer.answer(announced)[0] == 413
    streamed = peer.ask("/", "POST", end=False)
    peer.h2.send_data(streamed, bytes(11))
    peer.flush()
    assert peer.answer(streamed)[0] == 413
    assert peer.answer(peer.ask("/", "POST")) == (200, b"")
    assert "max_body_size" in service.log


def test_a_body_that_stalls_is_408_and_costs_no_other_stream(begin: Begin) -> None:
    _, peer = begin(body_timeout="1")
    stalled = peer.ask("/", "POST", end=False)
    assert peer.answer(peer.ask())[0] == 200
    assert peer.answer(stalled)[0] == 408
    assert peer.answer(peer.ask())[0] == 200


def test_a_body_that_stalls_behind_a_full_window_is_cut(begin: Begin) -> None:
    """Whoever of the two had to wait for the other."""
    service, peer = begin(body_timeout="1")
    peer.credits = False
    stalled = peer.ask("/duplex", "POST", end=False)
    while peer.h2.remote_flow_control_window(stalled):
        peer.read()
    for streams in (), (stalled,):
        peer.h2.increment_flow_control_window(1 << 20, *streams)
    peer.flush()
    assert peer.wait(h2.events.StreamReset, stalled).error_code == 2
    late = peer.ask("/hold", "POST", end=False)
    while window := peer.h2.local_flow_control_window(late):
        peer.h2.send_data(late, bytes(min(window, 16384)))
        peer.flush()
        assert peer.answer(peer.ask())[0] == 200
    (service.directory / "go").touch()
    assert peer.answer(late)[0] == 408


def test_an_app_that_takes_too_long_is_504_or_cut(begin: Begin) -> None:
    service, peer = begin(request_timeout="1")
    late, cut = peer.ask("/sleep"), peer.ask("/drip")
    assert peer.answer(late)[0] == 504
    assert peer.wait(h2.events.StreamReset, cut).error_code == 2
    assert peer.answer(peer.ask())[0] == 200
    assert "Traceback" not in service.log


def test_a_connection_that_says_nothing_is_closed(serve: Serve) -> None:
    service = serve(APP, *H2C, env={"UVWORKER_HEADER_TIMEOUT": "1"})
    for begun in b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"PRI * HT":
        with service.connect() as sock:
            sock.sendall(begun)
            while sock.recv(1024):
                pass


def test_an_idle_connection_is_closed_with_goaway(begin: Begin) -> None:
    _, peer = begin("--keep-alive", "1")
    assert peer.answer(peer.ask())[0] == 200
    assert peer.wait(h2.events.ConnectionTerminated).error_code == 0
    peer.wait_closed()


def test_a_full_worker_answers_503(serve: Serve) -> None:
    service = serve(APP, *H2C, env={"UVICORN_LIMIT_CONCURRENCY": "2"})
    peer = Peer(service.connect())
    held = peer.ask("/hold"), peer.ask("/hold")
    heard(service, "held", 2)
    refused = peer.ask()
    assert peer.answer(refused)[0] == 503
    assert peer.head(refused)[b"retry-after"] == b"1"
    (service.directory / "go").touch()
    assert [peer.answer(stream)[0] for stream in held] == [200, 200]
    peer.sock.close()


def test_more_streams_than_allowed_are_refused(begin: Begin) -> None:
    service, peer = begin("--http2-max-concurrent-streams", "2")
    held = peer.ask("/hold"), peer.ask("/hold")
    third = peer.ask()
    assert peer.wait(h2.events.StreamReset, third).error_code == 7
    (service.directory / "go").touch()
    assert [peer.answer(stream)[0] for stream in held] == [200, 200]
    assert peer.h2.remote_settings.max_concurrent_streams == 2


def test_what_an_app_does_after_its_answer_takes_no_stream(begin: Begin) -> None:
    service, peer = begin("--http2-max-concurrent-streams", "2")
    for _ in range(5):
        assert peer.answer(peer.ask("/background"))[0] == 200
    (service.directory / "go").touch()


@pytest.mark.parametrize("path", ["/a b", "/a?b c", "/a\tb"])
def test_a_path_with_a_blank_is_400(begin: Begin, path: str) -> None:
    """As over HTTP/1.1, where it would end there."""
    _, peer = begin()
    assert peer.answer(peer.ask(path))[0] == 400


def test_a_large_head_is_431(begin: Begin) -> None:
    _, peer = begin("--http2-max-header-list-size", "200")
    assert peer.answer(peer.ask("/", "GET", [("x-long", 200 * "a")]))[0] == 431
    assert peer.answer(peer.ask())[0] == 200


def test_a_stop_finishes_what_is_in_flight_and_says_goaway(begin: Begin) -> None:
    service, peer = begin()
    held = peer.ask("/hold")
    heard(service, "held")
    service.process.terminate()
    service.wait_log("Handling signal: term")
    late = peer.ask("/")
    assert peer.answer(late) == (200, b"")
    (service.directory / "go").touch()
    assert peer.answer(held) == (200, b"")
    peer.wait(h2.events.ConnectionTerminated)
    peer.wait_closed()
    assert service.wait_exit() == 0


def test_a_stop_may_answer_one_of_many_with_a_refusal(begin: Begin) -> None:
    """The connection is closed behind it, in the midst of what was read."""
    service, peer = begin()
    assert peer.answer(peer.ask()) == (200, b"")
    service.process.terminate()
    wait_for(service.refuses, "the listener is closed")
    with suppress(OSError):
        peer.sock.sendall(b"".join(bad_head(stream) for stream in range(3, 99, 2)))
        while peer.sock.recv(65536):
            pass
    assert service.wait_exit() == 0
    assert "Traceback" not in service.log


def bad_head(stream: int) -> bytes:
    """Return HEADERS of a request that names no host, which is 400."""
    block = b"\x82\x84\x86"  # GET, /, http: the static table of HPACK
    head = len(block).to_bytes(3, "big") + b"\x01\x05"
    return head + stream.to_bytes(4, "big") + block


def test_a_stop_asks_a_proxy_to_leave_and_refuses_it_nothing(serve: Serve) -> None:
    """As haproxy answers 502 for each stream that is refused, or beyond a GOAWAY."""
    service = serve(APP, *H2C)
    client = Long(service.connect())
    client.ask("/hold")
    heard(service, "held")
    service.process.terminate()
    wait_for(service.refuses, "the listener is closed")
    time.sleep(2.5)  # longer than a stop waits for what is under way
    for _ in range(2):
        client.ask("/")
        client.hear()
    assert client.goodbyes == [2**31 - 1]
    (service.directory / "go").touch()
    client.hear()
    client.ask("/")  # as if it had crossed
    while client.hear():
        pass
    assert client.goodbyes == [2**31 - 1, max(client.asked)]
    assert client.answered == client.asked
    client.sock.close()
    assert service.wait_exit() == 0


def test_a_reload_loses_no_request_of_a_client_that_seldom_reads(serve: Serve) -> None:
    """As httpx, which looks for a GOAWAY when it waits for an answer, and not before.

    It takes nothing behind one, and asks again for what is beyond.
    """
    service = serve(APP, *H2C)
    [old] = service.workers()
    with httpx.Client(http1=False, http2=True, timeout=PATIENCE) as client:

        def replaced() -> bool:
            assert client.get(service.url).status_code == 200
            return old not in service.workers()

        assert not replaced()
        service.kill(signal.SIGHUP)
        wait_for(replaced, "the old worker has left")


@pytest.mark.parametrize("cancelled", [0, 1])
def test_a_long_connection_ends_while_nothing_is_in_flight(
    serve: Serve, cancelled: int
) -> None:
    """It is no flood, which it is to zttp behind 4,096 streams or 256 resets."""
    service = serve(APP, *H2C)
    client = Long(service.connect())
    while not client.goodbyes and client.ask("/") and client.hear():
        for _ in range(cancelled):
            client.cancel(client.ask("/"))
    client.ask("/")  # as if it had crossed
    while client.hear():
        pass
    last = client.goodbyes[-1]  # a client asks again for what is beyond
    assert {stream for stream in client.asked if stream <= last} <= client.answered
    assert len(client.answered) > (90 if cancelled else 3000)
    client.sock.close()
    assert "Refused an HTTP/2 connection" not in service.log


def test_a_proxy_is_told_before_a_long_connection_ends(serve: Serve) -> None:
    """Requests of several at a time cross a GOAWAY; those of one client do not."""
    service = serve(APP, *H2C)
    client = Long(service.connect())
    client.ask("/hold")
    heard(service, "held")
    (service.directory / "go").touch()
    client.ask("/")
    while not client.goodbyes and client.hear():
        client.ask("/")
    while client.hear():
        pass
    assert client.goodbyes == [2**31 - 1, max(client.asked)]
    assert client.answered == client.asked
    client.sock.close()


def test_a_long_connection_that_is_always_busy_ends_and_loses_no_request(
    serve: Serve,
) -> None:
    service = serve(APP, *H2C)
    client = Long(service.connect())
    held = client.ask("/hold")
    while not client.goodbyes:
        client.ask("/")
        client.hear()
    late = client.ask("/")  # as if it had crossed
    client.hear()
    assert late in client.answered
    (service.directory / "go").touch()
    client.hear()
    assert held in client.answered
    client.sock.close()
    assert "Refused an HTTP/2 connection" not in service.log


class Long:
    """A client that counts; Python's h2 would take nothing behind a GOAWAY."""

    HEADERS, RST_STREAM, GOAWAY = 1, 3, 7

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.reader = sock, sock.makefile("rb")
        self.stream = -1
        self.asked: set[int] = set()  # and not cancelled
        self.answered: set[int] = set()
        self.goodbyes: list[int] = []  # the last streams that GOAWAYs name
        sock.settimeout(PATIENCE)
        settings = bytes((0, 0, 0, 4)) + bytes(5)
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)

    def ask(self, path: str) -> int:
        """Send a head, and return the number of its stream."""
        self.stream += 2
        name = bytes((4, len(path))) + path.encode()  # HPACK, as are the others:
        block = b"\x82\x86\x01\x01a" + name  # GET, http, and a as authority
        head = bytes((0, 0, len(block), self.HEADERS, 5))
        self.sock.sendall(head + self.stream.to_bytes(4, "big") + block)
        self.asked.add(self.stream)
        return self.stream

    def cancel(self, stream: int) -> None:
        head = bytes((0, 0, 4, self.RST_STREAM, 0)) + stream.to_bytes(4, "big")
        self.sock.sendall(head + bytes((0, 0, 0, 8)))
        self.asked.discard(stream)

    def hear(self) -> bool:
        """Wait for the end of a response; return False if the connection ends."""
        while head := self.reader.read(9):
            rest = self.reader.read(int.from_bytes(head[:3], "big"))
            if head[3] == self.GOAWAY:
                assert rest[4:8] == bytes(4), "no error"
                self.goodbyes.append(int.from_bytes(rest[:4], "big"))
            elif head[3] in (0, self.HEADERS) and head[4] & 1:
                self.answered.add(int.from_bytes(head[5:], "big"))
                return True
        return False


def test_a_client_that_resets_a_stream_is_told_to_the_app_and_logged(
    begin: Begin,
) -> None:
    service, peer = begin()
    begun, unanswered = peer.ask("/drip"), peer.ask("/hold")
    peer.wait(h2.events.DataReceived, begun)
    heard(service, "held")
    for stream in begun, unanswered:
        peer.h2.reset_stream(stream, 8)
    peer.flush()
    heard(service, "heard http.disconnect")
    (service.directory / "go").touch()
    assert peer.answer(peer.ask())[0] == 200
    assert service.stop() == 0
    assert re.findall(r'"GET (\S+) HTTP/2" (\d+)', logged(service)) == [
        ("/drip", "200"),
        ("/hold", "499"),
        ("/", "200"),
    ]
    assert "Traceback" not in service.log


def test_an_error_of_the_app_resets_its_stream_alone(begin: Begin) -> None:
    service, peer = begin()
    assert peer.wait(h2.events.StreamReset, peer.ask("/crash")).error_code == 2
    assert peer.answer(peer.ask())[0] == 200
    assert service.log.count("Exception in ASGI application") == 1


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_without_a_body_has_none(begin: Begin, status: int) -> None:
    service, peer = begin()
    assert peer.answer(peer.ask(f"/status/{status}")) == (status, b"")
    head = peer.ask("/status/200", "HEAD")
    assert peer.answer(head) == (200, b"")
    service.wait_log("has none; it was dropped")


def test_a_status_that_is_not_final_is_a_500_and_costs_no_other_stream(
    begin: Begin,
) -> None:
    service, peer = begin()
    assert peer.answer(peer.ask("/status/103"))[0] == 500
    assert peer.answer(peer.ask())[0] == 200
    service.wait_log("cannot be sent: the status 103 is no final one")


@pytest.mark.parametrize(
    ("path", "te", "trailed"),
    [
        ("/trail/200/x-sum", True, True),
        ("/trail/200/x-sum", False, False),
        ("/trail/204/x-sum", True, False),
    ],
)
def test_trailers_go_to_clients_that_take_them(
    begin: Begin, path: str, te: bool, trailed: bool
) -> None:
    """And not behind a response that has no body: RFC 9110 section 15.3.5."""
    _, peer = begin()
    stream = peer.ask(path, fields=[("te", "trailers")] * te)
    assert peer.answer(stream)[0] == int(path.split("/")[2])
    kinds = {type(event) for event in peer.events}
    assert (h2.events.TrailersReceived in kinds) is trailed


def test_a_trailer_that_cannot_be_sent_resets_its_stream_alone(begin: Begin) -> None:
    service, peer = begin()
    names = "content-type", "host", "content-range", "content-length"
    for name in names:
        stream = peer.ask(f"/trail/200/{name}", fields=[("te", "trailers")])
        assert peer.wait(h2.events.StreamReset, stream).error_code == 2
    assert peer.answer(peer.ask())[0] == 200
    assert service.log.count("RuntimeError: The field") == len(names)
    assert service.stop() == 0
    assert logged(service).count("/trail/") == len(names)


def test_fields_of_a_connection_stay_behind(begin: Begin) -> None:
    _, peer = begin()
    stream = peer.ask("/fields")
    assert peer.answer(stream) == (200, b"")
    head = peer.head(stream)
    assert head.pop(b"date")
    assert head == {b":status": b"200", b"x-up": b"up", b"server": b"mine"}


def test_an_app_that_does_not_read_holds_its_own_client_alone(begin: Begin) -> None:
    service, peer = begin()
    stuck = peer.ask("/hold", "POST", end=False)
    sent = 0
    while peer.h2.local_flow_control_window(stuck) and sent < 1 << 20:
        size = min(peer.h2.local_flow_control_window(stuck), 16384)
        peer.h2.send_data(stuck, bytes(size))
        sent += size
        peer.flush()
        assert peer.answer(peer.ask())[0] == 200  # and what came meanwhile is read
    assert sent < 1 << 18
    (service.directory / "go").touch()
    peer.wait(h2.events.WindowUpdated, stuck)
    peer.h2.end_stream(stuck)
    peer.flush()
    assert peer.answer(stuck) == (200, bytes(sent))


def test_a_client_without_a_window_holds_the_app(begin: Begin) -> None:
    service, peer = begin()
    peer.credits = False
    big = peer.ask("/big")
    peer.wait(h2.events.DataReceived, big)
    assert "all sent" not in service.out
    peer.h2.increment_flow_control_window(1 << 30)
    peer.h2.increment_flow_control_window(1 << 30, big)
    peer.flush()
    assert len(peer.answer(big)[1]) == 64 * 65536


@pytest.mark.parametrize("sent", ["", "piece", "end"])
def test_a_client_that_opens_no_window_is_cut(begin: Begin, sent: str) -> None:
    """Whatever it sends of its own body meanwhile."""
    _, peer = begin("--timeout", "2", "--asgi-disconnect-grace-period", "1")
    peer.credits = False
    stuck = peer.ask("/pour", "POST", end=False)
    while peer.h2.remote_flow_control_window(stuck):
        peer.read()
    if sent:
        peer.h2.send_data(stuck, b"piece", end_stream=sent == "end")
        peer.flush()
    assert peer.wait(h2.events.StreamReset, stuck).error_code == 8
    assert peer.answer(peer.ask()) == (200, b"")


@pytest.mark.parametrize("size", [1000, 16384, 65536, 1 << 20])
def test_a_client_with_a_wide_window_that_does_not_read_holds_the_app(
    begin: Begin, size: int
) -> None:
    """Else 64 MB would wait in the worker's memory, for each such stream."""
    service, peer = begin()
    peer.h2.update_settings({4: (1 << 31) - 1})
    peer.h2.increment_flow_control_window(1 << 30)
    peer.ask(f"/pieces/{size}")
    heard(service, "begun")
    other = Peer(service.connect())
    assert other.answer(other.ask())[0] == 200  # so the app waits
    other.sock.close()
    assert "all sent" not in service.out


SHORT_STALL = """
import uvworker.http.service
uvworker.http.service.WRITE_STALL = 2.0
"""


def test_a_client_with_a_wide_window_that_does_not_read_is_cut(serve: Serve) -> None:
    settings = "--timeout", "2", "--asgi-disconnect-grace-period", "1"
    service = serve(
        SHORT_STALL + APP, *H2C, *settings, "--access-logfile", "access.log"
    )
    with service.connect() as sock:
        peer = Peer(sock)
        peer.h2.update_settings({4: (1 << 31) - 1})
        peer.h2.increment_flow_control_window(1 << 30)
        peer.ask("/pour")
        wait_for(lambda: "/pour" in logged(service), "the request is over")


def test_an_app_may_go_on_reading_behind_its_answer(begin: Begin) -> None:
    """Its client has no need of a window any more."""
    service, peer = begin()
    stream = peer.ask("/late", "POST", end=False)
    for _ in range(2):  # the second window is the last one that it gets
        while window := peer.h2.local_flow_control_window(stream):
            peer.h2.send_data(stream, bytes(min(window, 16384)))
        peer.flush()
        peer.wait(h2.events.WindowUpdated, stream)
    (service.directory / "go").touch()
    assert peer.answer(stream)[0] == 200
    peer.h2.close_connection()
    peer.flush()
    peer.wait_closed()
    (service.directory / "left").touch()
    heard(service, "disconnect")
    assert "Traceback" not in service.log


@pytest.mark.parametrize("ended", [True, False])
def test_an_early_answer_arrives_while_the_client_sends_on(
    begin: Begin, ended: bool
) -> None:
    """A reset behind it costs curl and httpx the answer, as long as they send.

    A client that stops without an end is reset in the end, and loses nothing else.
    """
    _, peer = begin()
    stream = peer.ask("/ignore", "POST", end=False)
    assert peer.answer(stream) == (200, b"")
    for _ in range(40):
        while peer.h2.local_flow_control_window(stream) < 16384:
            peer.read()
        peer.h2.send_data(stream, bytes(16384))
        peer.flush()
    assert not any(isinstance(event, h2.events.StreamReset) for event in peer.events)
    if ended:
        peer.h2.end_stream(stream)
    else:
        assert peer.wait(h2.events.StreamReset, stream).error_code == 0
    assert peer.answer(peer.ask()) == (200, b"")


def test_an_answer_that_waited_for_its_window_is_not_reset_either(begin: Begin) -> None:
    _, peer = begin("--timeout", "1")
    peer.credits = False
    stream = peer.ask("/early", "POST", end=False)
    while peer.h2.remote_flow_control_window(stream):
        peer.read()
    for streams in (), (stream,):
        peer.h2.increment_flow_control_window(65536, *streams)
    peer.flush()
    assert peer.answer(stream)[0] == 413
    late = time.monotonic() + 6  # as no window is awaited for so long
    while time.monotonic() < late:
        peer.h2.send_data(stream, b"piece")
        peer.flush()
        time.sleep(0.1)
    assert peer.answer(peer.ask()) == (200, b"")
    assert not any(isinstance(event, h2.events.StreamReset) for event in peer.events)


def test_a_refusal_reaches_a_client_in_the_midst_of_its_upload(begin: Begin) -> None:
    service, _ = begin(max_body_size="1M")
    with httpx.Client(http1=False, http2=True, timeout=PATIENCE) as client:
        assert client.post(service.url, content=bytes(3_000_000)).status_code == 413
        assert client.post(service.url, content=b"a").content == b"a"


def test_two_tasks_of_an_app_wait_for_one_window(begin: Begin) -> None:
    _, peer = begin()
    assert len(peer.answer(peer.ask("/two"))[1]) == 64 * 32768


FLOODS = {
    "ping": lambda peer: peer.h2.ping(b"12345678"),
    "settings": lambda peer: peer.h2.update_settings({4: 65535}),
    "reset": lambda peer: peer.h2.reset_stream(peer.ask(), 8),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_costs_its_connection_and_a_line(begin: Begin, kind: str) -> None:
    service, first = begin()
    peers = [first, *(Peer(service.connect()) for _ in range(19))]
    for peer in peers:
        try:
            for _ in range(5000):
                FLOODS[kind](peer)
            peer.flush()
        except OSError:
            pass
        peer.sock.close()
    last = Peer(service.connect())
    assert last.answer(last.ask())[0] == 200
    last.sock.close()
    assert "Traceback" not in service.log
    assert service.log.count("Refused an HTTP/2 connection") <= 20


def test_what_is_no_http_2_costs_a_line(begin: Begin) -> None:
    service, peer = begin()
    peer.sock.sendall(b"\0\0\x08\x06\0\0\0\0\x01" + bytes(8))  # a PING of a stream
    assert peer.wait(h2.events.ConnectionTerminated).error_code == 1
    peer.wait_closed()
    service.wait_log(r"Refused an HTTP/2 connection from 127.0.0.1:\d+ with 400: ")
    assert "Traceback" not in service.log
