"""ASGI apps that the protocol tests serve."""

from __future__ import annotations

import asyncio
import json
from typing import Any


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes = b"", *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def read(receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        parts.append(message["body"])
        if not message["more_body"]:
            return b"".join(parts)


async def answer(send, data: bytes, *headers: tuple[bytes, bytes]) -> None:
    await send(start(200, (b"content-length", b"%d" % len(data)), *headers))
    await send(body(data))


async def hello(_scope, _receive, send) -> None:
    await answer(send, b"Hello, world!")


async def echo(_scope, receive, send) -> None:
    await answer(send, await read(receive))


async def path(scope, receive, send) -> None:
    await read(receive)
    await answer(send, scope["raw_path"])


async def show(scope, receive, send) -> None:
    """Answer with the scope."""
    await read(receive)
    plain = {
        name: value.decode("latin-1") if isinstance(value, bytes) else value
        for name, value in scope.items()
    }
    plain["headers"] = [
        [name.decode("latin-1"), value.decode("latin-1")]
        for name, value in scope["headers"]
    ]
    await answer(send, json.dumps(plain).encode())


async def never(_scope, _receive, _send) -> None:
    """Wait for ever."""
    await asyncio.Event().wait()


def sending(*messages: dict[str, Any]):
    """Make an app that sends these messages, come what may."""

    async def app(_scope, _receive, send) -> None:
        for message in messages:
            await send(message)

    return app
