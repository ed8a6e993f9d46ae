"""A model that answers token by token, and stops when nobody listens any more.

gunicorn -k uvworker.Worker -w 4 tokens:app
curl -N 'http://127.0.0.1:8000/generate?prompt=gunicorns+and+unicorns'

A stream ends in one of three ways: the model is done; the client leaves, so the model
stops; the service drains for longer than graceful_timeout, so the client is told.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

SECONDS = 0.02  # that a token takes

app = FastAPI()


async def model(prompt: str) -> AsyncIterator[str]:
    """Yield tokens; what runs on a GPU is awaited in the same way."""
    for word in itertools.islice(itertools.cycle(prompt.split()), 200):
        await asyncio.sleep(SECONDS)
        yield word


async def events(prompt: str) -> AsyncIterator[str]:
    """Yield server-sent events, and say what became of them."""
    sent = 0
    end = "was left by its client"
    try:
        async for token in model(prompt):
            yield f"data: {token}\n\n"
            sent += 1
        yield "event: done\ndata:\n\n"
        end = "is done"
    finally:
        # Here the model is told to stop: no GPU computes for a client that is gone.
        print(f"a stream {end} after {sent} tokens", flush=True)


@app.get("/generate")
async def generate(prompt: str = "hello") -> StreamingResponse:
    return StreamingResponse(
        events(prompt),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
