"""Clients that leave, and answers that are complete while the app still sends."""

from __future__ import annotations

import asyncio

import pytest

from uvworker.http.limits import Limits

from . import apps
from .conftest import until
from .test_protocol_requests import GET, HOST

HEAD = b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n"


def in_flight(service):
    return any(each.cycle for each in service.connections())


async def _endless(send):
    while True:
        await send(apps.body(b"data", more=True))


async def _stream_until_left(_scope, receive, send):
    """Stream as Starlette does by ASGI 2.3: until `receive()` tells of the end."""
    await receive()
    await send(apps.start())
    streaming = asyncio.ensure_future(_endless(send))
    assert await receive() == {"type": "http.disconnect"}
    streaming.cancel()


# -- clients that leave


@pytest.mark.parametrize(
    ("leave", "recorded"), [("close", (200, 4)), ("reset", (499, 0))]
)
def test_an_app_whose_client_left_is_told_and_goes_on(
    serve, loop, leave, recorded, caplog
):
    """What it does behind its answer is done, and nothing is an error.

    A client that closes looks like one that only sends no more: what is written to it
    is sent.
    """
    told, records = [], []

    async def app(_scope, receive, send):
        await receive()
        told.append(await receive())
        await apps.answer(send, b"late")
        told.append(await receive())

    service = serve(app, config={"loop": loop}, record=records.append)
    client = service.connect().send(GET)
    until(lambda: in_flight(service))
    getattr(client, leave)()
    until(lambda: len(told) == 2 and not service.server.server_state.tasks)
    assert told == [{"type": "http.disconnect"}] * 2
    assert [(r.status, r.sent) for r in records] == [recorded]
    assert not caplog.records


@pytest.mark.parametrize("kind", [KeyError, TimeoutError])
def test_an_error_behind_a_disconnect_is_the_apps_own(serve, loop, kind, caplog):
    """Nobody else would learn that a rollback has failed."""
    fault = kind("of a database")

    async def app(_scope, receive, send):
        await receive()
        await send(apps.start())
        try:
            await _endless(send)
        except asyncio.CancelledError as error:
            if isinstance(fault, TimeoutError):
                raise fault from error  # as asyncio's timeouts do
            raise fault  # noqa: B904

    service = serve(app, config={"loop": loop}, limits=Limits(disconnect_grace=0))
    client = service.connect().send(GET)
    client.response()
    client.close()
    until(lambda: not service.server.server_state.tasks)
    [record] = caplog.records
    assert record.exc_info[1] is fault


def test_a_stream_that_never_pauses_ends_with_its_client(serve, loop):
    """`send()` no longer waits for the client, and must let the loop turn itself."""
    service = serve(_stream_until_left, config={"loop": loop})
    client = service.connect().send(GET)
    client.sock.recv(1)
    client.close()
    until(lambda: not service.server.server_state.tasks)


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_pipelined_request_does_not_hide_that_the_client_left(serve, loop, pieces):
    records = []

    async def app(_scope, receive, send):
        await send(apps.start())
        while (await receive())["type"] != "http.disconnect":
            pass

    service = serve(app, config={"loop": loop}, record=records.append)
    client = service.connect().send(GET * (3 - pieces))
    client.sock.recv(1)
    client.send(GET * (pieces - 1))
    until(lambda: service.connections()[0].queue)  # a reset drops what is not yet read
    client.close()
    until(lambda: not service.server.server_state.tasks)
    assert [record.status for record in records] == [200, 499]


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([], 499),
        ([apps.start(201, (b"content-length", b"5"))], 499),
        ([apps.start(201)], 201),
        ([apps.start(201, (b"content-length", b"5")), apps.body(b"a", more=True)], 201),
    ],
)
def test_what_was_sent_to_who_left_is_recorded_once(serve, loop, messages, status):
    records, began = [], []

    async def app(_scope, receive, send):
        for message in messages:
            await send(message)
        while (await receive())["type"] != "http.disconnect":
            began.append(1)

    service = serve(app, config={"loop": loop}, record=records.append)
    client = service.connect().send(GET)
    until(lambda: began)
    client.close()
    until(lambda: not service.server.server_state.tasks)
    assert [record.status for record in records] == [status]


# -- HEAD


@pytest.mark.parametrize(
    "headers", [[], [(b"content-length", b"5")], [(b"transfer-encoding", b"chunked")]]
)
@pytest.mark.parametrize("pipelined", [True, False])
def test_head_of_a_stream_is_complete_at_its_end_of_head(
    serve, loop, headers, pipelined, caplog
):
    """The app hears of it, and the connection serves the next request at once."""
    ended = []

    async def app(scope, receive, send):
        await receive()
        if scope["method"] == "GET":
            await apps.answer(send, b"next")
            return
        await send(apps.start(200, *headers))
        streaming = asyncio.ensure_future(_endless(send))
        ended.append(await receive())
        streaming.cancel()

    service = serve(app, config={"loop": loop})
    client = service.connect()
    client.send(HEAD + GET if pipelined else HEAD)
    first = client.answer("HEAD")
    assert (first.status, first.closing) == (200, False)
    if not pipelined:
        client.send(GET)
    assert client.answer().body == b"next"
    until(lambda: ended == [{"type": "http.disconnect"}])
    until(lambda: not service.server.server_state.tasks)
    assert not caplog.records


def test_an_app_that_fails_behind_its_head_costs_no_connection(serve, caplog):
    async def app(_scope, _receive, send):
        await send(apps.start())
        raise ValueError("behind the head")

    client = serve(app).connect().send(HEAD * 2)
    assert [client.answer("HEAD").closing for _ in range(2)] == [False, False]
    until(lambda: caplog.text.count("ValueError: behind") == 2)


# -- statuses without a body


@pytest.mark.parametrize("status", [204, 304, 101, 103, 199])
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-length", b"4")],
        [(b"content-length", b"0")],
        [(b"content-length", b"99")],
        [(b"transfer-encoding", b"chunked")],
    ],
)
@pytest.mark.parametrize("size", [4, 100_000])
def test_a_body_where_none_may_be_is_dropped(serve, status, headers, size, caplog):
    records = []

    async def app(scope, _receive, send):
        if scope["path"] == "/after":
            await apps.answer(send, b"after", (b"connection", b"close"))
            return
        await send(apps.start(status, *headers))
        await send(apps.body(b"n" * size, more=True))
        await send(apps.body(b"ull"))

    after = GET.replace(b"/ ", b"/after ")
    client = serve(app, record=records.append).connect().send(GET * 2 + after)
    first, second, last = client.rest().split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"%d " % status)
    assert first.endswith(b"\r\n\r\n")
    assert b"transfer-encoding" not in first
    length = status == 304 and b"content-length" in dict(headers)
    assert (b"content-length" in first) == length
    assert second == first
    assert last.endswith(b"\r\n\r\nafter")
    assert [record.sent for record in records] == [0, 0, 5]
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert f"GET '/' with status {status}" in caplog.text


def test_dropped_bodies_are_warned_of_once_a_path_and_not_for_ever(serve, caplog):
    app = apps.sending(apps.start(204), apps.body(b"x"))
    client = serve(app).connect()
    for number in [*range(120), *range(120)]:
        client.send(GET.replace(b"/ ", b"/item/%d " % number))
        assert client.answer().status == 204
    assert len(caplog.records) == 100
