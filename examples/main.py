"""A FastAPI app as people write them; `make serve` runs it with four workers.

gunicorn -c conf/gunicorn.conf.py --chdir examples main:app
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from tempfile import NamedTemporaryFile
from typing import Annotated, TypedDict

from fastapi import (
    BackgroundTasks,
    FastAPI,
    Request,
    UploadFile,
    WebSocket,
    WebSocketDisconnect,
)
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import BaseModel, Field

TICKS = 5  # events that /events sends


class State(TypedDict):
    journal: list[str]


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
    """Open the journal, once per worker, and close it when the worker leaves."""
    with NamedTemporaryFile("w", prefix="journal-") as file:
        journal: list[str] = []
        print(f"worker {os.getpid()} opened {file.name}", flush=True)
        yield {"journal": journal}
        file.writelines(journal)
        print(f"worker {os.getpid()} closed {file.name}", flush=True)


app = FastAPI(title="uvworker's example", lifespan=lifespan)


class Item(BaseModel):
    name: str
    price: Annotated[float, Field(gt=0)]
    tags: list[str] = []


class Order(BaseModel):
    items: Annotated[list[Item], Field(min_length=1)]


class Receipt(BaseModel):
    count: int
    total: float
    worker: int


@app.get("/")
async def who() -> HTMLResponse:
    """Show which worker answered; reload the page to meet the others."""
    return HTMLResponse(
        "<!doctype html><title>uvworker</title>"
        f"<h1>Worker {os.getpid()} says hello</h1>"
        '<p><a href="/docs">API</a> · <a href="/events">events</a></p>'
    )


@app.post("/orders")
async def order(order: Order, request: Request, background: BackgroundTasks) -> Receipt:
    """Add up an order; write it down after the response is sent."""
    total = sum(item.price for item in order.items)
    background.add_task(request.state.journal.append, f"{len(order.items)} {total}\n")
    return Receipt(count=len(order.items), total=total, worker=os.getpid())


@app.get("/orders/count")
async def orders(request: Request) -> dict[str, int]:
    """Count the orders that this worker wrote down."""
    return {"worker": os.getpid(), "orders": len(request.state.journal)}


@app.post("/upload")
async def upload(file: UploadFile) -> dict[str, str | int | None]:
    """Take a file of any size, a chunk at a time."""
    size = 0
    while chunk := await file.read(64 * 1024):
        size += len(chunk)
    return {"name": file.filename, "bytes": size}


@app.get("/events")
async def events() -> StreamingResponse:
    """Send server-sent events, a few a second."""

    async def stream() -> AsyncIterator[str]:
        for tick in range(TICKS):
            yield f"id: {tick}\ndata: worker {os.getpid()}, event {tick}\n\n"
            await asyncio.sleep(0.2)

    return StreamingResponse(stream(), media_type="text/event-stream")


@app.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    """Send every message back."""
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        pass
