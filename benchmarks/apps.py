"""The apps. Most have no framework, so that the figures are those of the server."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import FileResponse, PlainTextResponse

GREETING = b"Hello, world!"
CHUNK, CHUNKS = b"x" * 16384, 64  # 1 MiB in all

FILE_SIZE = 10_000_000  # bytes

Scope = dict[str, Any]


BURN = 0.02  # seconds of CPU


def burn() -> None:
    """Keep this worker busy, as a template or a report does."""
    end = time.thread_time() + BURN
    while time.thread_time() < end:
        pass


async def pid(scope: Scope, _receive: Any, send: Any) -> None:
    """Answer with this worker's pid, for ``/burn`` after some work."""
    if scope["type"] == "http":
        if scope["path"] == "/burn":
            burn()
        await respond(send, b"%d" % os.getpid())


async def upload(scope: Scope, receive: Any, send: Any) -> None:
    """Read the request's body, and answer 13 bytes."""
    if scope["type"] == "http":
        while (await receive())["more_body"]:
            pass
        await respond(send, GREETING)


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
    """Answer in chunks, without a Content-Length."""
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


_file = tempfile.NamedTemporaryFile()  # noqa: SIM115  gone with the process
_file.write(bytes(FILE_SIZE))
_file.flush()
_response = FileResponse(_file.name, media_type="application/octet-stream")


async def file(scope: Scope, receive: Any, send: Any) -> None:
    """Answer with a file, as Starlette and FastAPI do."""
    if scope["type"] == "http":
        await _response(scope, receive, send)


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


@api.get("/threaded/{number}")
def item_in_thread(number: int) -> Item:
    return Item(id=number, name="lamp", price=1.5, tags=["a", "b"])


@api.get("/pid")
@api.get("/burn")
async def who() -> PlainTextResponse:
    burn()
    return PlainTextResponse(str(os.getpid()))
