"""What a protocol of somebody else's answers is recorded all the same, once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
import websockets
from websockets.asyncio.client import connect

from tests.tools.service import PATIENCE
from uvworker.access.record import AccessRecord, Recorded, together

BOTH = ("http", "websocket")


class Server(uvicorn.Server):
    """A uvicorn that leaves the test's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def served(
    app: Any,
    client: Callable[[str], Awaitable[None]],
    types: tuple[str, ...] = BOTH,
    **options: Any,
) -> list[AccessRecord]:
    """Serve *app* recorded, let *client* talk to it, and return the records."""
    records: list[AccessRecord] = []

    async def main() -> None:
        chosen = {"http": "h11", "ws": "wsproto", "lifespan": "off", **options}
        config = uvicorn.Config(app, log_config=None, **chosen)
        config.load()
        config.loaded_app = Recorded(config.loaded_app, records.append, types)
        server = Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server.serve([listener]))
            await client(f"127.0.0.1:{listener.getsockname()[1]}")
            server.should_exit = True
            await serving

    asyncio.run(main())
    return records


async def hello(_scope: Any, _receive: Any, send: Any) -> None:
    headers = [(b"x-a", b"1")]
    await send({"type": "http.response.start", "status": 203, "headers": headers})
    await send({"type": "http.response.body", "body": b"Hello, ", "more_body": True})
    await send({"type": "http.response.body", "body": b"world!"})


def getting(target: str = "/", **options: Any) -> Callable[[str], Awaitable[None]]:
    async def client(address: str) -> None:
        async with httpx.AsyncClient(timeout=PATIENCE) as session:
            method = options.pop("method", "GET")
            await session.request(method, f"http://{address}{target}", **options)

    return client


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_request_is_recorded_once_with_what_was_sent(http: str) -> None:
    [record] = served(hello, getting("/a%20b?c=d"), http=http, root_path="/root")
    assert (record.status, record.sent) == (203, 13)
    assert record.headers == [(b"x-a", b"1")]
    assert record.request_target() == b"/a%20b?c=d"
    assert record.peer
    assert record.peer[0] == "127.0.0.1"
    assert record.duration > 0


def test_the_peer_is_not_who_a_header_says() -> None:
    forwarded = {"X-Forwarded-For": "192.0.2.1"}
    [record] = served(hello, getting(headers=forwarded), forwarded_allow_ips="*")
    assert record.peer
    assert record.peer[0] == "127.0.0.1"


def test_the_bytes_of_an_answer_without_body_are_none() -> None:
    async def no_content(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    [record] = served(hello, getting(method="HEAD"))
    assert (record.status, record.sent) == (203, 0)
    [record] = served(no_content, getting())
    assert (record.status, record.sent) == (204, 0)


def test_an_app_that_fails_is_recorded_as_answered_500() -> None:
    async def failing(_scope: Any, _receive: Any, _send: Any) -> None:
        raise LookupError

    [record] = served(failing, getting())
    assert (record.status, record.sent) == (500, 0)


def test_http_passes_unwatched_where_only_websockets_are_recorded() -> None:
    """Our own protocol records it: there must not be two lines."""
    assert served(hello, getting(), types=("websocket",)) == []
    seen: list[Any] = []
    recorded = Recorded(lambda *args: seen.append(args), print, ("websocket",))  # type: ignore[arg-type,return-value]
    recorded({"type": "http"}, "receive", "send")  # type: ignore[arg-type]
    assert seen == [({"type": "http"}, "receive", "send")]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept", "headers": [(b"x-a", b"1")]})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    scope["path"] = "rewritten"


@pytest.mark.parametrize("ws", ["websockets-sansio", "wsproto"])
def test_a_websocket_is_recorded_once_when_it_closes(ws: str) -> None:
    async def client(address: str) -> None:
        async with connect(
            f"ws://{address}/chat?room=1", open_timeout=PATIENCE
        ) as socket_:
            for payload in ("é", b"12345"):
                await socket_.send(payload)
                assert await socket_.recv() == payload

    [record] = served(echo, client, types=("websocket",), ws=ws)
    assert (record.status, record.sent) == (101, 7)
    assert record.headers == [(b"x-a", b"1")]
    assert (record.method, record.request_target()) == ("GET", b"/chat?room=1")
    assert record.duration > 0


def rejected(app: Any) -> AccessRecord:
    async def client(address: str) -> None:
        with pytest.raises(websockets.InvalidStatus):
            async with connect(f"ws://{address}/", open_timeout=PATIENCE):
                pass

    [record] = served(app, client, types=("websocket",))
    return record


def test_a_websocket_that_is_rejected_has_the_status_of_its_answer() -> None:
    async def closing(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close"})

    async def answering(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-length", b"4")]
        start = {"type": "websocket.http.response.start", "status": 401}
        await send({**start, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"who?"})

    async def failing(_scope: Any, _receive: Any, _send: Any) -> None:
        raise LookupError

    assert rejected(closing).status == 403
    record = rejected(answering)
    assert (record.status, record.sent) == (401, 4)
    assert rejected(failing).status == 500


def test_a_websocket_closed_by_its_app_keeps_its_status() -> None:
    async def closing(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})

    async def client(address: str) -> None:
        async with connect(f"ws://{address}/", open_timeout=PATIENCE) as socket_:
            await socket_.wait_closed()

    [record] = served(closing, client)
    assert record.status == 101


def test_recorders_are_fed_together() -> None:
    first: list[AccessRecord] = []
    second: list[AccessRecord] = []
    record = AccessRecord({}, None, 200, [], 0, 0.0)
    assert together(None, None) is None
    one, both = together(None, first.append), together(first.append, second.append)
    assert one
    assert both
    one(record)
    both(record)
    assert first == [record, record]
    assert second == [record]
