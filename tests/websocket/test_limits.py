"""What a client may send, how long it may take, and who waits for whom."""

from __future__ import annotations

import asyncio
import random
import socket
import sys
import time
from contextlib import suppress
from typing import Any

import pytest

from tests.http.conftest import Client, Service, until
from tests.tools.certificates import Certificates
from uvworker.access.record import AccessRecord
from uvworker.http.forwarded import Forwarding
from uvworker.http.limits import Limits
from uvworker.http.refusal import LINES_A_TURN
from uvworker.machine.send_queue import unacknowledged
from uvworker.websocket import service
from uvworker.websocket.channel import CLOSING
from uvworker.websocket.connection import WebSocket

from . import apps, client
from .apps import ACCEPT, Held, Told, say
from .conftest import Start, enter, hear, hear_close, over_tls
from .test_frames import CASES

PONG, PING = 0x8A, 0x89


# Handshakes

BAD_HANDSHAKES = {
    "no key": ((b"Sec-WebSocket-Key", b"X"), 400),
    "a short key": ((b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhl"), 400),
    "a key that is no base64": ((b"dGhlIHNhbXBsZSBub25jZQ==", b"?" * 24), 400),
    "no version": ((b"Sec-WebSocket-Version", b"X"), 426),
    "an old version": ((b": 13", b": 8"), 426),
    "two versions": ((b": 13", b": 13\r\nSec-WebSocket-Version: 8"), 426),
    "a body": ((b"Upgrade: w", b"Content-Length: 5\r\nUpgrade: w"), 400),
    "a body in chunks": (
        (b"Upgrade: w", b"Transfer-Encoding: chunked\r\nUpgrade: w"),
        400,
    ),
    "no host": ((b"Host: h\r\n", b""), 400),
    "two hosts": ((b"Host: h", b"Host: h\r\nHost: i"), 400),
    "a bad host": ((b"Host: h", b"Host: h, i"), 400),
    "a path that is no ASCII": ((b"GET /", b"GET /\xff"), 400),
    "an authority for a path": ((b"GET /", b"GET h:80"), 400),
}


@pytest.mark.parametrize(
    ("change", "status"), BAD_HANDSHAKES.values(), ids=BAD_HANDSHAKES
)
def test_a_bad_handshake_is_refused_by_a_line(
    sockets: Start,
    caplog: pytest.LogCaptureFixture,
    change: tuple[bytes, bytes],
    status: int,
) -> None:
    answer = sockets(apps.echo).ask(client.handshake().replace(*change))
    assert (answer.status, answer.closing) == (status, True)
    if status == 426:
        assert answer.headers["sec-websocket-version"] == "13"
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert not record.exc_info


def test_a_bad_claim_of_a_trusted_proxy_is_refused_by_a_line(
    sockets: Start, caplog: pytest.LogCaptureFixture
) -> None:
    forwarding = Forwarding.from_settings(forwarded_header="rfc7239")
    service = sockets(apps.echo, forwarding=forwarding)
    answer = service.ask(client.handshake(b'Forwarded: for="'))
    assert answer.status == 400
    assert not caplog.records[0].exc_info


def test_a_proxy_that_is_trusted_tells_who_the_client_is(sockets: Start) -> None:
    secure = {"X-FORWARDED-PROTO": "https"}
    app = Told(ACCEPT)
    service = sockets(
        app, forwarding=Forwarding.from_settings(secure_scheme_headers=secure)
    )
    enter(service, b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Proto: https")
    until(lambda: app.scope)
    assert app.scope["client"] == ("1.2.3.4", 0)
    assert app.scope["scheme"] == "wss"


def test_limit_concurrency_refuses_a_handshake(sockets: Start) -> None:
    service = sockets(apps.echo, config={"limit_concurrency": 2})
    enter(service)
    answer = service.ask(client.handshake())
    assert answer.status == 503


@pytest.mark.usefixtures("quick")
def test_an_app_that_neither_accepts_nor_denies_is_timed_out(sockets: Start) -> None:
    service = sockets(apps.never, limits=Limits(request_timeout=0.2))
    assert service.ask(client.handshake()).status == 504
    until(lambda: not service.server.server_state.tasks)


@pytest.mark.usefixtures("quick")
def test_an_accepted_websocket_has_no_request_timeout(sockets: Start) -> None:
    service = sockets(apps.echo, limits=Limits(request_timeout=0.1), ping_interval=0.1)
    peer = enter(service)
    for _ in range(5):  # half a second
        assert hear(peer)[0] == PING
        peer.send(client.frame(client.PONG))
    peer.send(client.text("still here"))
    assert (0x81, b"still here") in (hear(peer), hear(peer))


def test_a_client_that_floods_a_slow_handshake_has_to_wait(sockets: Start) -> None:
    app = Held(accepts=False)
    service = sockets(app)
    peer = service.connect().send(client.handshake())
    peer.sock.settimeout(0.5)
    with pytest.raises(TimeoutError):
        peer.flood()
    assert peer.flooded < 16 << 20
    app.let_go()
    peer.close()
    until(lambda: not service.connections())


# Frames


@pytest.mark.parametrize(("name", "wire", "code"), CASES, ids=[c[0] for c in CASES])
def test_a_fault_is_told_to_both_and_logged_in_a_line(
    sockets: Start, caplog: pytest.LogCaptureFixture, name: str, wire: bytes, code: int
) -> None:
    app = Told(ACCEPT)
    peer = enter(sockets(app, max_size=100)).send(wire + client.text("ignored"))
    assert hear_close(peer)[0] == code, name
    assert peer.rest() == b""
    until(lambda: app.farewell)
    assert app.farewell is not None
    assert app.farewell["code"] == code
    assert app.farewell["reason"]
    assert [message["type"] for message in app.told].count("websocket.receive") == 0
    [record] = caplog.records
    assert (record.levelname, record.exc_info) == ("WARNING", None)


def test_a_client_that_goes_on_behind_its_fault_still_hears_why(sockets: Start) -> None:
    """A close would be a reset, and take the close frame with it."""
    peer = enter(sockets(apps.echo, max_size=100))
    peer.send(client.frame(client.BINARY, bytes(1 << 20)))
    assert hear_close(peer) == (1009, "the message is longer than ws_max_size")


def test_a_flood_of_faults_is_a_few_lines(
    sockets: Start, caplog: pytest.LogCaptureFixture
) -> None:
    service = sockets(apps.echo)
    for _ in range(40):
        assert hear_close(enter(service).send(b"\xff\xff"))[0] == 1002
        assert service.ask(client.handshake().replace(b"13", b"8")).status == 426
    turns = 60  # seconds that this took at most
    assert len(caplog.records) < LINES_A_TURN * turns
    assert len({record.getMessage() for record in caplog.records}) < 80
    assert not any(record.exc_info for record in caplog.records)


def test_pings_are_answered(sockets: Start) -> None:
    peer = enter(sockets(apps.echo)).send(client.frame(client.PING, b"are you there"))
    assert hear(peer) == (PONG, b"are you there")


def test_a_pong_that_nobody_asked_for_is_ignored(sockets: Start) -> None:
    peer = enter(sockets(apps.echo))
    peer.send(client.frame(client.PONG, b"here I am") + client.text("hello"))
    assert hear(peer) == (0x81, b"hello")


# A slow app


@pytest.mark.parametrize(
    ("size", "queue", "taken"), [(10, 5, 5), (40_000, 32, 2)], ids=["count", "bytes"]
)
def test_a_client_waits_for_a_slow_app(
    sockets: Start, size: int, queue: int, taken: int
) -> None:
    """By the number of messages, and by their bytes; no message is lost."""
    begin, read, loops = asyncio.Event(), [], []

    async def app(_scope, receive, send):
        loops.append(asyncio.get_running_loop())
        await receive()
        await send(ACCEPT)
        await begin.wait()
        while (message := await receive())["type"] == "websocket.receive":
            read.append(message)
            await send(say(b""))

    service = sockets(app, max_queue=queue)
    peer = enter(service)
    peer.send(client.frame(client.BINARY, bytes(size)) * 20)
    until(lambda: queued(service) == taken)
    peer.send(client.frame(client.PING))
    peer.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        hear(peer)
    assert queued(service) == taken
    peer.sock.settimeout(10)
    loops[0].call_soon_threadsafe(begin.set)
    heard = [hear(peer)[0] for _ in range(21)]
    assert heard.count(PONG) == 1
    assert len(read) == 20


def test_a_fast_client_holds_no_more_than_the_queue(sockets: Start) -> None:
    app = Held()
    service = sockets(app)
    peer = enter(service)
    peer.sock.settimeout(0.5)
    with pytest.raises(TimeoutError):
        while True:
            peer.sock.send(client.text("x" * 100) * 1000)
    assert queued(service) == 32
    peer.close()
    app.let_go()
    until(lambda: not service.connections())
    assert len(app.read) > 1000


@pytest.mark.parametrize(
    ("last", "code"), [(client.close(4000, b"bye"), 4000), (b"", 1006)]
)
def test_what_came_before_a_connection_was_lost_is_read(
    sockets: Start, loop: str, last: bytes, code: int
) -> None:
    """As over TLS, which notices the end while the client has to wait for the app."""
    app = Held()
    running = sockets(app, config={"loop": loop})
    enter(running).send(client.text("hello") * 100 + last)
    until(lambda: queued(running) == 32)
    [websocket] = running.connections()
    app.loop.call_soon_threadsafe(websocket.cut)
    until(lambda: not running.connections())
    app.let_go()
    until(lambda: app.farewell)
    assert app.farewell is not None
    assert (len(app.read), app.farewell["code"]) == (100, code)


def test_all_that_a_client_sent_by_tls_before_it_left_is_read(
    sockets: Start, loop: str, certificates: Certificates
) -> None:
    """Also what is not decrypted when the end comes."""
    app = Held()
    running = sockets(app, config={"loop": loop, **over_tls(certificates)})
    peer = enter(running, tls=certificates.client())
    peer.send(client.text("x" * 1000) * 200 + client.close(4000, b"bye"))
    until(lambda: queued(running) == 32)
    peer.close()
    steady(running.connections)
    app.let_go()
    until(lambda: app.farewell)
    assert app.farewell is not None
    assert (len(app.read), app.farewell["code"]) == (200, 4000)


def test_an_app_whose_send_fails_reads_all_that_came_by_tls(
    sockets: Start, loop: str, certificates: Certificates
) -> None:
    """It notices the end first, while TLS still holds what the client has sent."""
    if loop == "asyncio" and sys.version_info < (3, 11):
        pytest.skip("it leaves with the kernel what it does not hand out")
    read: list[dict[str, Any]] = []
    loops: list[asyncio.AbstractEventLoop] = []
    begin = asyncio.Event()

    async def app(_scope, receive, send):
        loops.append(asyncio.get_running_loop())
        await receive()
        await send(ACCEPT)
        await begin.wait()
        [websocket] = running.connections()
        websocket.cut()
        with suppress(OSError):
            while True:
                await send(say(b""))
        while not read or read[-1]["type"] == "websocket.receive":
            read.append(await receive())

    running = sockets(app, config={"loop": loop, **over_tls(certificates)})
    peer = enter(running, tls=certificates.client())
    peer.send(client.text("x" * 1000) * 100)
    until(lambda: queued(running) == 32)
    steady(running.connections)
    loops[0].call_soon_threadsafe(begin.set)
    until(lambda: read and read[-1]["type"] == "websocket.disconnect")
    assert (len(read[:-1]), read[-1]["code"]) == (100, 1006)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("tls", [False, True])
def test_a_client_that_leaves_while_it_has_to_wait_for_the_app_is_noticed(
    sockets: Start, loop: str, certificates: Certificates, tls: bool
) -> None:
    """Over TLS, asyncio tells of the end only who reads, and drops what is written."""
    app = Held()
    config = {"loop": loop} | (over_tls(certificates) if tls else {})
    running = sockets(app, config=config, ping_interval=0.2)
    peer = enter(running, tls=certificates.client() if tls else None)
    peer.send(client.text("x" * 1000) * 100)
    until(lambda: queued(running) == 32)
    [websocket] = running.connections()
    peer.close()
    until(lambda: not running.connections())
    app.let_go()
    until(lambda: app.farewell)
    assert app.farewell is not None
    assert (len(app.read), app.farewell["code"]) == (100, 1006)
    # Or Python 3.10 warns of a transport that nobody closed.
    app.loop.call_soon_threadsafe(websocket.transport.close)


# A slow client


def test_send_waits_for_a_slow_client(sockets: Start, loop: str) -> None:
    sent = []

    async def app(_scope, receive, send):
        await receive()
        await send(ACCEPT)
        for number in range(200):
            await send(say(bytes(100_000)))
            sent.append(number)

    service = sockets(app, config={"loop": loop})
    peer = enter(service)
    steady(lambda: len(sent))
    assert len(sent) < 150
    for _ in range(200):
        assert len(hear(peer)[1]) == 100_000
    assert hear_close(peer) == (1000, "")


def test_a_client_that_pings_and_does_not_read_costs_no_memory(sockets: Start) -> None:
    service = sockets(apps.echo)
    peer = enter(service)
    [websocket] = service.connections()
    peer.sock.settimeout(1)
    pings = client.frame(client.PING, bytes(125)) * 500
    for _ in range(400):  # 26 MB of pongs
        peer.sock.sendall(pings)
    assert websocket.transport.get_write_buffer_size() < 1 << 20
    peer.sock.settimeout(10)
    peer.send(client.close(1000))
    while (frame := hear(peer))[0] == PONG:
        pass
    assert frame == (0x88, b"\x03\xe8")


@pytest.mark.usefixtures("quick")
def test_a_client_that_reads_nothing_is_cut(
    sockets: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "WRITE_STALL", 0.3)
    over = []

    async def app(_scope, receive, send):
        await receive()
        await send(ACCEPT)
        try:
            while True:
                await send(say(bytes(100_000)))
        except OSError as error:
            over.append(error)

    running = sockets(app, ping_interval=None)
    enter(running)
    until(lambda: over)
    until(lambda: not running.connections())


async def blast(_scope, receive, send) -> None:
    """Send 10 MB, which is more than kernels hold, and close."""
    await receive()
    await send(ACCEPT)
    for _ in range(10):
        await send(say(bytes(1_000_000)))


def is_spared(websocket: WebSocket, deadline: str) -> bool:
    """Let one of a slow client's deadlines come; tell whether it got another."""
    setattr(websocket, deadline, 0)
    until(lambda: getattr(websocket, deadline) or websocket.transport.is_closing())
    return not websocket.transport.is_closing()


def sip(peer: Client, websocket: WebSocket, deadline: str) -> bytes:
    """Read a little five times, until the server's kernel knows of it; never be cut."""
    steady(lambda: unacknowledged(websocket.transport))
    received = b""
    for _ in range(5):
        assert is_spared(websocket, deadline)
        before = unacknowledged(websocket.transport)
        while unacknowledged(websocket.transport) == before:
            received += peer.sock.recv(4096)
    return received


@pytest.mark.usefixtures("quick")
def test_a_client_that_reads_slowly_is_not_taken_for_one_that_is_stuck(
    sockets: Start, loop: str
) -> None:
    """It takes from the kernel, which has room for more of ours only now and then."""
    running = sockets(blast, config={"loop": loop}, ping_interval=None)
    peer = enter(running)
    [websocket] = running.connections()
    until(lambda: websocket._gate is not None)  # noqa: SLF001
    hear_all(peer, sip(peer, websocket, "stalled"))


@pytest.mark.usefixtures("quick")
def test_a_client_that_reads_slowly_gets_what_was_sent_before_the_close(
    sockets: Start, loop: str
) -> None:
    """All of it is in the kernel by then, and a cut would drop it."""
    app = Told(ACCEPT, say(bytes(2_000_000)), {"type": "websocket.close"})
    running = sockets(app, config={"loop": loop})
    peer = enter(running)
    [websocket] = running.connections()
    until(lambda: websocket.state == CLOSING)
    hear_all(peer, sip(peer, websocket, "deadline"))
    peer.send(client.close(1000))
    assert peer.rest() == b""


def hear_all(peer: Client, received: bytes) -> None:
    """Read on to the close frame."""
    while not received.endswith(b"\x88\x02\x03\xe8"):
        piece = peer.sock.recv(1 << 20)
        assert piece, "the end, without a close frame"
        received = received[-3:] + piece


def test_no_pong_goes_out_behind_a_close_frame(
    sockets: Start, loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It was owed to a client that did not read; then the client's fault came."""
    running = sockets(blast, config={"loop": loop})
    peer = enter(running)
    [websocket] = running.connections()
    until(lambda: websocket._gate is not None)  # noqa: SLF001
    peer.send(client.frame(client.PING, b"are you there?"))
    until(lambda: websocket._pong is not None)  # noqa: SLF001
    peer.send(client.frame(3))  # an unknown kind
    until(lambda: websocket.state == CLOSING)
    received = b""
    while piece := peer.sock.recv(1 << 20):
        received += piece
    assert received.endswith(b"\x88\x10\x03\xeaunknown opcode")
    assert b"are you there?" not in received
    assert [record.levelname for record in caplog.records] == ["WARNING"]


# Silence


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_client_is_pinged_and_lives_as_long_as_it_answers(sockets: Start) -> None:
    service = sockets(apps.echo, ping_interval=0.1, ping_timeout=0.5)
    peer = enter(service)
    for _ in range(12):
        assert hear(peer) == (PING, b"")
        peer.send(client.frame(client.PONG))
    assert service.connections()


@pytest.mark.usefixtures("quick")
def test_a_client_that_answers_no_ping_is_closed_with_1011(
    sockets: Start, caplog: pytest.LogCaptureFixture
) -> None:
    app = Told(ACCEPT)
    service = sockets(app, ping_interval=0.1, ping_timeout=0.2)
    peer = enter(service)
    assert hear(peer) == (PING, b"")
    assert hear_close(peer) == (1011, "keepalive ping timeout")
    until(lambda: app.farewell)
    assert app.farewell is not None
    assert app.farewell["code"] == 1011
    assert not caplog.records


@pytest.mark.usefixtures("quick")
def test_a_ping_that_stays_in_the_kernel_is_no_sign_of_life(
    sockets: Start, loop: str
) -> None:
    """As of a client that has vanished: nothing is acknowledged any more."""
    app = Told(ACCEPT, say(bytes(300_000)))
    settings = {"ping_interval": 0.1, "ping_timeout": 0.3}
    running = sockets(app, config={"loop": loop}, **settings)
    peer = running.connect()
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    peer.send(client.handshake())
    until(lambda: app.farewell)
    assert app.farewell is not None
    assert app.farewell["code"] == 1011


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_what_a_client_sends_is_a_sign_of_life(sockets: Start) -> None:
    """Its pong may be behind a message that takes longer than `ping_timeout`."""
    service = sockets(apps.echo, ping_interval=0.1, ping_timeout=0.2)
    peer = enter(service)
    wire = client.text("x" * 100)
    for _ in range(3):
        for i in range(len(wire)):
            peer.send(wire[i : i + 1])
            time.sleep(0.005)
    echoes = 0
    while echoes < 3:
        heard = hear(peer)
        assert heard in {(PING, b""), (0x81, b"x" * 100)}
        echoes += heard[0] == 0x81


@pytest.mark.usefixtures("quick")
def test_a_client_that_waits_for_the_app_is_not_taken_for_dead(sockets: Start) -> None:
    app = Told(ACCEPT, reads=False)

    async def slow(scope, receive, send):
        await app(scope, receive, send)
        await asyncio.sleep(1)
        while (await receive())["type"] == "websocket.receive":
            pass

    service = sockets(slow, ping_interval=0.1, ping_timeout=0.1, max_queue=1)
    peer = enter(service).send(client.text("a") * 3)
    for _ in range(4):
        assert hear(peer) == (PING, b"")
    assert service.connections()


@pytest.mark.parametrize("off", [None, 0])
@pytest.mark.usefixtures("quick")
def test_without_an_interval_no_ping_is_sent(sockets: Start, off: float | None) -> None:
    peer = enter(sockets(apps.echo, ping_interval=off))
    peer.sock.settimeout(0.5)
    with pytest.raises(TimeoutError):
        hear(peer)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("said", [(), (say("hello"),)], ids=["nothing", "hello"])
def test_a_close_that_is_not_answered_ends_in_time(
    sockets: Start, monkeypatch: pytest.MonkeyPatch, said: tuple[dict[str, Any], ...]
) -> None:
    monkeypatch.setattr(service, "CLOSE_TIMEOUT", 0.2)
    running = sockets(Told(ACCEPT, *said, {"type": "websocket.close"}))
    peer = enter(running)
    for _ in said:
        assert hear(peer) == (0x81, b"hello")
    assert hear_close(peer) == (1000, "")
    peer.send(client.text("I have not noticed"))
    assert peer.rest() == b""
    until(lambda: not running.connections())


@pytest.mark.usefixtures("quick")
def test_a_client_that_stays_behind_its_fault_is_cut_in_time(
    sockets: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LINGER", 0.2)
    running = sockets(apps.echo)
    peer = enter(running).send(b"\xff\xff")
    until(lambda: not running.connections())
    assert hear_close(peer)[0] == 1002


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("first", ["client", "server"])
def test_a_client_that_stays_behind_the_close_of_a_tls_connection_is_cut_in_time(
    sockets: Start,
    loop: str,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
) -> None:
    """It has answered the close frame, but does not answer TLS's own goodbye."""
    monkeypatch.setattr(service, "LINGER", 0.2)
    app = Told(ACCEPT, *[{"type": "websocket.close"}] * (first == "server"))
    running = sockets(app, config={"loop": loop, **over_tls(certificates)})
    peer = enter(running, tls=certificates.client())
    if first == "server":
        assert hear_close(peer) == (1000, "")
    peer.send(client.close(1000))
    until(lambda: not running.connections())


# What is told of it


def test_a_websocket_is_recorded_once_when_it_ends(sockets: Start) -> None:
    records: list[AccessRecord] = []
    running = sockets(apps.echo, record=records.append)
    peer = enter(running, b"User-Agent: me").send(client.text("ü") * 2)
    assert [hear(peer), hear(peer)] == [(0x81, "ü".encode())] * 2
    assert not records
    peer.send(client.close(1000))
    peer.rest()
    until(lambda: records and not running.connections())
    [record] = records
    assert (record.status, record.sent, record.method) == (101, 4, "GET")
    assert record.request_target() == b"/"
    assert record.field(b"user-agent") == b"me"
    assert record.peer is not None
    assert record.duration > 0
    assert running.server.server_state.total_requests == 1


def test_a_handshake_that_is_refused_is_recorded_once(sockets: Start) -> None:
    records: list[AccessRecord] = []
    running = sockets(Told({"type": "websocket.close"}), record=records.append)
    assert running.ask(client.handshake()).status == 403
    assert running.ask(client.handshake().replace(b"13", b"8")).status == 426
    until(lambda: len(records) == 2)
    assert [record.status for record in records] == [403, 426]


def test_an_app_that_stays_behind_a_client_is_cancelled_after_the_grace_period(
    sockets: Start,
) -> None:
    cancelled = []

    async def app(_scope, receive, send):
        await receive()
        await send(ACCEPT)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    enter(sockets(app, limits=Limits(disconnect_grace=0.1))).close()
    until(lambda: cancelled)


# The server


def test_a_drain_closes_with_1012(sockets: Start) -> None:
    app = Told(ACCEPT)
    running = sockets(app)
    peer = enter(running)
    [websocket] = running.connections()
    app.loop.call_soon_threadsafe(websocket.shutdown)
    assert hear_close(peer) == (1012, "")
    until(lambda: app.farewell)
    assert app.farewell is not None
    assert app.farewell["code"] == 1012
    peer.send(client.close(1012))
    assert peer.rest() == b""


def test_random_bytes_end_in_a_close_frame_and_no_traceback(
    sockets: Start, caplog: pytest.LogCaptureFixture
) -> None:
    running = sockets(apps.echo)
    for seed in range(30):
        noise = socket_noise(seed)
        peer = enter(running, b"Sec-WebSocket-Extensions: permessage-deflate")
        peer.send(noise)
        peer.sock.shutdown(socket.SHUT_WR)
        peer.rest()
    until(lambda: not running.connections())
    assert not any(record.exc_info for record in caplog.records)


def socket_noise(seed: int) -> bytes:
    source = random.Random(seed)
    frames = (
        client.frame(
            source.choice((0, 1, 2, 8, 9, 10)),
            source.randbytes(source.randrange(130)),
            fin=source.random() < 0.8,
            flags=source.choice((0, 0, 0x40)),
        )
        for _ in range(5)
    )
    return b"".join(frames) + source.randbytes(20)


def queued(running: Service) -> int:
    """Return how many messages wait for the app."""
    [websocket] = running.connections()
    return len(websocket._queue)  # noqa: SLF001  nobody else has to know


def steady(figure: Any) -> None:
    """Wait until a figure has not moved for a while."""
    before = None
    while (now := figure()) != before:
        before = now
        time.sleep(0.3)
