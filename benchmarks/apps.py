"""What each server serves. Apps without a framework, so that the server is the cost."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

GREETING = b"Hello, world!"
CHUNK, CHUNKS = b"x" * 16384, 64  # 1 MiB in all

Scope = dict[str, Any]


async def plain(scope: Scope, _receive: Any, send: Any) -> None:
    """Answer 13 bytes."""
    if scope["type"] == "http":
        await respond(send, GREETING)


async def echo(scope: Scope, receive: Any, send: Any) -> None:
    """Answer with the request's body."""
    if scope["type"] == "http":
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        await respond(send, body)


async def stream(scope: Scope, _receive: Any, send: Any) -> None:
    """Answer in chunks, of a length that is not told before."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for left in reversed(range(CHUNKS)):
            body = {"type": "http.response.body", "body": CHUNK, "more_body": left > 0}
            await send(body)


async def websocket(scope: Scope, receive: Any, send: Any) -> None:
    """Send every text message back."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})


async def respond(send: Any, body: bytes) -> None:
    headers = [
        (b"content-type", b"text/plain"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Item(BaseModel):
    id: int
    name: str
    price: float
    tags: list[str]


api = FastAPI()


@api.get("/items/{number}")
async def item(number: int) -> Item:
    return Item(id=number, name="lamp", price=1.5, tags=["a", "b"])
