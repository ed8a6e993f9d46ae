"""What an app may do with a WebSocket, and what it is told: ASGI WebSocket 2.5."""

from __future__ import annotations

import asyncio
import gc
import socket
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.http.conftest import until
from uvworker.http.cycle import Cycle
from uvworker.websocket.channel import Channel

from . import apps, client
from .apps import ACCEPT, Told, say
from .conftest import Start, enter, hear, hear_close, join

CLOSE = {"type": "websocket.close"}


def denial(status: int, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    kind = "websocket.http.response.start"
    return {"type": kind, "status": status, "headers": list(headers)}


def body(data: bytes, *, more: bool = False) -> dict[str, Any]:
    kind = "websocket.http.response.body"
    return {"type": kind, "body": data, "more_body": more}


# Messages


@pytest.mark.parametrize("compression", ["deflate", None])
def test_messages_are_echoed(
    sockets: Start, loop: str, compression: str | None
) -> None:
    service = sockets(apps.echo, config={"loop": loop})
    with join(service, compression=compression, max_size=None) as websocket:
        for message in ("", "ü" * 100, b"", b"\0" * 70_000, "x" * 1_000_000):
            websocket.send(message)
            assert websocket.recv() == message
        websocket.send(["in ", "three ", "fragments"])
        assert websocket.recv() == "in three fragments"


def test_a_message_is_one_write(sockets: Start) -> None:
    service = sockets(apps.echo)
    with join(service) as websocket:
        websocket.send("hello")
        assert websocket.recv() == "hello"
        [connection] = service.connections()
        written: list[bytes] = []
        real = connection.transport

        class Transport:
            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def write(self, data: bytes) -> None:
                written.append(data)
                real.write(data)

        connection.transport = Transport()
        websocket.send("hello")
        assert websocket.recv() == "hello"
        assert written == [b"\x81\x05hello"]
        connection.transport = real


def test_messages_that_come_with_the_handshake_are_read(sockets: Start) -> None:
    service = sockets(apps.echo)
    talk = client.handshake() + client.text("one") + client.text("two")
    peer = service.connect().send(talk)
    while peer.line() != b"\r\n":
        pass
    assert [hear(peer), hear(peer)] == [(0x81, b"one"), (0x81, b"two")]


def test_two_may_wait_in_receive_and_one_may_be_cancelled(sockets: Start) -> None:
    async def app(_scope, receive, send):
        await receive()
        await send(ACCEPT)
        first, second = (asyncio.ensure_future(receive()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await send(say((await second)["text"]))
        await receive()

    with join(sockets(app)) as websocket:
        websocket.send("heard")
        assert websocket.recv() == "heard"


def test_a_buffer_is_sent_as_it_is_at_that_moment(sockets: Start, loop: str) -> None:
    async def app(_scope, receive, send):
        await receive()
        await send(ACCEPT)
        for size in 10, 10_000_000:
            buffer = bytearray(b"a" * size)
            await send(say(buffer))
            buffer[:] = b"b" * size
            await send(say(memoryview(buffer)[:5]))
        await receive()  # the client's close: of ours, websockets 14.0 forgets messages

    service = sockets(app, config={"loop": loop})
    with join(service, compression=None, max_size=None) as websocket:
        assert [websocket.recv() for _ in range(4)] == [
            b"a" * 10,
            b"b" * 5,
            b"a" * 10_000_000,
            b"b" * 5,
        ]


def alive() -> int:
    return sum(isinstance(each, (Channel, Cycle)) for each in gc.get_objects())


@pytest.mark.parametrize(
    "messages", [[], [denial(401), body(b"")], [{"type": "websocket.close"}]]
)
def test_what_is_denied_is_freed_at_once(
    sockets: Start, messages: list[dict[str, Any]]
) -> None:
    running = sockets(Told(*messages, reads=False))
    gc.collect()
    gc.disable()
    before = alive()
    try:
        peer = running.connect().send(client.handshake())
        assert peer.rest().startswith(b"HTTP/1.1 ")
        until(lambda: alive() == before)
    finally:
        gc.enable()


def test_what_is_over_is_freed_at_once(sockets: Start) -> None:
    """No circle of references waits for the garbage collector."""
    running = sockets(apps.echo)
    gc.collect()
    gc.disable()
    before = alive()
    try:
        with join(running) as websocket:
            websocket.send("hello")
            websocket.recv()
            assert alive() == before + 2
        until(lambda: alive() == before)
    finally:
        gc.enable()


# The scope


def test_the_scope_is_that_of_a_websocket(sockets: Start) -> None:
    app = Told(ACCEPT)
    with join(sockets(app, config={"root_path": "/r"}), "/a%20b?c=d"):
        until(lambda: app.scope)
    scope = app.scope
    assert scope["type"] == "websocket"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert (scope["scheme"], scope["http_version"]) == ("ws", "1.1")
    assert (scope["root_path"], scope["path"]) == ("/r", "/r/a b")
    assert (scope["raw_path"], scope["query_string"]) == (b"/r/a%20b", b"c=d")
    assert scope["client"][0] == scope["server"][0] == "127.0.0.1"
    assert scope["subprotocols"] == []
    assert scope["extensions"] == {"websocket.http.response": {}}
    assert "method" not in scope


def test_each_scope_has_a_copy_of_the_state(sockets: Start) -> None:
    app = Told(ACCEPT)
    service = sockets(app)
    with join(service):
        until(lambda: app.scope)
    first = app.scope["state"]
    with join(service):
        until(lambda: app.scope["state"] is not first)
    assert app.scope["state"] == first


def test_a_subprotocol_is_chosen_and_headers_are_added(sockets: Start) -> None:
    accept = {**ACCEPT, "subprotocol": "b", "headers": [(b"X-A", b"1")]}
    app = Told(accept)
    names = [Subprotocol("a"), Subprotocol("b")]
    with join(sockets(app), subprotocols=names) as websocket:
        assert websocket.subprotocol == "b"
        assert websocket.response is not None
        assert websocket.response.headers["x-a"] == "1"
        assert "date" in websocket.response.headers
    assert app.scope["subprotocols"] == ["a", "b"]


def test_what_only_the_server_may_say_is_said_once(sockets: Start) -> None:
    headers = [
        (b"Upgrade", b"h2c"),
        (b"connection", b"close"),
        (b"sec-websocket-accept", b"x"),
        (b"sec-websocket-extensions", b"x"),
        (b"content-length", b"5"),
    ]
    with join(sockets(Told({**ACCEPT, "headers": headers}))) as websocket:
        assert websocket.response is not None
        said = websocket.response.headers
        assert said.get_all("upgrade") == ["websocket"]
        assert said.get_all("connection") == ["upgrade"]
        assert len(said.get_all("sec-websocket-accept")) == 1
        assert "permessage-deflate" in said["sec-websocket-extensions"]
        assert "content-length" not in said


@pytest.mark.parametrize(
    "accept",
    [{"headers": [(b"x", b"a\r\nb: c")]}, {"subprotocol": "a\r\nb: c"}],
    ids=["headers", "subprotocol"],
)
def test_a_header_that_would_split_the_response_is_500(
    sockets: Start, accept: dict[str, Any]
) -> None:
    async def app(_scope, receive, send):
        await receive()
        await send({**ACCEPT, **accept})

    with pytest.raises(InvalidStatus) as refused:
        join(sockets(app))
    assert refused.value.response.status_code == 500


# Denials


@pytest.mark.parametrize("accepts", [True, False])
def test_a_close_before_the_accept_is_403(sockets: Start, accepts: bool) -> None:
    app = Told(CLOSE, *[ACCEPT] * accepts)
    with pytest.raises(InvalidStatus) as refused:
        join(sockets(app))
    assert refused.value.response.status_code == 403
    until(lambda: app.farewell)
    assert app.farewell is not None
    assert app.farewell["code"] == 1006
    assert [type(error).__name__ for error in app.raised] == [
        "ClientDisconnected"
    ] * accepts


def test_a_denial_is_an_ordinary_response(sockets: Start) -> None:
    app = Told(denial(401, (b"x-a", b"1")), body(b"who ", more=True), body(b"are you?"))
    answer = sockets(app).connect().send(client.handshake()).answer()
    assert (answer.status, answer.headers["x-a"]) == (401, "1")
    assert answer.body == b"who are you?"
    assert answer.closing
    until(lambda: app.farewell)
    assert app.farewell is not None
    assert app.farewell["code"] == 1006


def test_a_denial_with_a_length_of_its_own_is_kept_to_it(sockets: Start) -> None:
    app = Told(denial(404, (b"content-length", b"2")), body(b"no"))
    answer = sockets(app).connect().send(client.handshake()).answer()
    assert (answer.status, answer.body) == (404, b"no")
    assert "transfer-encoding" not in answer.headers


def test_a_denial_that_is_not_finished_is_cut_off(sockets: Start) -> None:
    app = Told(denial(500), body(b"begun", more=True), reads=False)
    peer = sockets(app).connect().send(client.handshake())
    assert not peer.rest().endswith(b"0\r\n\r\n")


OUT_OF_ORDER = {
    "send before accept": (say("a"),),
    "a body before its start": (body(b"a"),),
    "accept within a denial": (denial(401), ACCEPT),
    "a denial that would be an accept": (denial(101),),
    "a second accept": (ACCEPT, ACCEPT),
    "a denial after accept": (ACCEPT, denial(401)),
    "a close that cannot be sent": (ACCEPT, {**CLOSE, "code": 1005}),
    "nothing to send": (ACCEPT, {"type": "websocket.send", "text": None}),
    "http's own": ({"type": "http.response.start", "status": 200},),
}


@pytest.mark.parametrize("messages", OUT_OF_ORDER.values(), ids=OUT_OF_ORDER)
def test_a_message_out_of_order_is_an_error(
    sockets: Start, messages: tuple[dict[str, Any], ...]
) -> None:
    app = Told(*messages, reads=False)
    peer = sockets(app).connect().send(client.handshake())
    until(lambda: app.raised)
    assert isinstance(app.raised[0], RuntimeError), app.raised
    peer.close()


# Apps that end


@pytest.mark.parametrize("path", ["/raise", "/exit", "/return"])
def test_an_app_that_ends_before_the_accept_is_500(
    sockets: Start, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    async def app(scope, _receive, _send):
        if scope["path"] == "/raise":
            raise LookupError
        if scope["path"] == "/exit":
            raise SystemExit

    answer = sockets(app).ask(client.handshake(path=path.encode()))
    assert (answer.status, answer.closing) == (500, True)
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1


@pytest.mark.parametrize(("fails", "code"), [(True, 1011), (False, 1000)])
def test_what_an_app_leaves_open_is_closed(
    sockets: Start, caplog: pytest.LogCaptureFixture, fails: bool, code: int
) -> None:
    async def app(_scope, receive, send):
        await receive()
        await send(ACCEPT)
        if fails:
            raise LookupError

    with join(sockets(app)) as websocket, pytest.raises(ConnectionClosed) as closed:
        websocket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == fails


# Closes


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (CLOSE, (1000, "")),
        ({**CLOSE, "code": 4000, "reason": "so long"}, (4000, "so long")),
        ({**CLOSE, "code": 3000, "reason": None}, (3000, "")),
        ({**CLOSE, "code": None}, (1000, "")),
    ],
)
def test_an_app_closes(
    sockets: Start, message: dict[str, Any], told: tuple[int, str]
) -> None:
    app = Told(ACCEPT, message, say("too late"), CLOSE)
    with join(sockets(app)) as websocket, pytest.raises(ConnectionClosed) as closed:
        websocket.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == told
    until(lambda: app.farewell)
    assert app.farewell is not None
    assert (app.farewell["code"], app.farewell["reason"]) == told
    assert [isinstance(error, OSError) for error in app.raised] == [True, True]


@pytest.mark.parametrize(
    ("sent", "told", "answer"),
    [
        (client.close(1001, b"away"), (1001, "away"), b"\x88\x06\x03\xe9away"),
        (client.frame(client.CLOSE), (1005, ""), b"\x88\x00"),
        (client.close(4999), (4999, ""), b"\x88\x02\x13\x87"),
    ],
)
def test_a_clients_close_is_told_and_answered(
    sockets: Start, sent: bytes, told: tuple[int, str], answer: bytes
) -> None:
    app = Told(ACCEPT)
    peer = enter(sockets(app)).send(client.text("last") + sent)
    assert peer.rest() == answer
    until(lambda: app.farewell)
    assert app.told[1] == {"type": "websocket.receive", "text": "last"}
    assert app.farewell is not None
    assert (app.farewell["code"], app.farewell["reason"]) == told


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_a_client_that_is_lost_is_told_as_1006(sockets: Start, leave: str) -> None:
    app = Told(ACCEPT)
    getattr(enter(sockets(app)), leave)()
    until(lambda: app.farewell)
    assert app.farewell is not None
    assert app.farewell["code"] == 1006


@pytest.mark.parametrize("half", [True, False], ids=["half-closed", "closed"])
def test_a_client_that_leaves_before_the_accept_is_told_as_1006(
    sockets: Start, half: bool
) -> None:
    app = Told()
    service = sockets(app)
    peer = service.connect().send(client.handshake())
    if half:
        peer.sock.shutdown(socket.SHUT_WR)
    else:
        peer.close()
    until(lambda: app.farewell)
    assert app.farewell is not None
    assert app.farewell["code"] == 1006
    until(lambda: not service.connections())


def test_the_disconnect_is_told_again_to_who_asks_again(sockets: Start) -> None:
    told = []

    async def app(_scope, receive, send):
        await receive()
        await send(ACCEPT)
        told.extend([await receive() for _ in range(3)])

    enter(sockets(app)).close()
    until(lambda: told)
    assert [message["type"] for message in told] == ["websocket.disconnect"] * 3


def test_sending_to_a_client_that_left_is_an_oserror_and_no_line(
    sockets: Start, caplog: pytest.LogCaptureFixture
) -> None:
    over = []

    async def app(_scope, receive, send):
        await receive()
        await send(ACCEPT)
        await receive()
        try:
            await send(say("too late"))
        except OSError as error:
            over.append(error)
            raise RuntimeError("wrapped") from error

    service = sockets(app)
    enter(service).close()
    until(lambda: over and not service.server.server_state.tasks)
    assert not caplog.records


class WebSocketDisconnect(Exception):  # noqa: N818  Starlette's name
    """What frameworks raise for the disconnect."""


class Group(Exception):  # noqa: N818  as of Python 3.11
    """An exception that holds others."""

    exceptions = (WebSocketDisconnect(),)


@pytest.mark.parametrize("sends", [False, True], ids=["receives", "sends"])
@pytest.mark.parametrize(
    ("raises", "lines"), [(WebSocketDisconnect, 0), (Group, 0), (LookupError, 1)]
)
def test_a_frameworks_disconnect_may_leave_the_app_and_is_no_line(
    sockets: Start,
    caplog: pytest.LogCaptureFixture,
    raises: type[Exception],
    lines: int,
    sends: bool,
) -> None:
    async def app(_scope, receive, send):
        await receive()
        await send(ACCEPT)
        try:
            await receive()
            if sends:
                await send(say("too late"))
            raise WebSocketDisconnect  # noqa: TRY301  as a framework does
        except OSError:
            raise raises  # noqa: B904
        except WebSocketDisconnect:
            raise raises  # noqa: B904  an error while it handles the disconnect

    service = sockets(app)
    enter(service).send(client.close(1001)).rest()
    until(lambda: not service.server.server_state.tasks)
    assert len(caplog.records) == lines


def test_a_close_frame_ends_the_connection_for_both(sockets: Start) -> None:
    service = sockets(Told(ACCEPT, CLOSE))
    peer = enter(service)
    assert hear_close(peer) == (1000, "")
    peer.send(client.close(1000))
    assert peer.rest() == b""
    until(lambda: not service.connections())
