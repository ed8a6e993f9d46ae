"""A lifespan that ends while its worker serves: said at once, and served on."""

from __future__ import annotations

import pytest

from tests.conftest import Serve

ENDED = "application lifespan ended; the worker serves without it"

# *after* runs in the lifespan once the file "end" exists.
RAW = """
import asyncio
from pathlib import Path

async def end():
    while not Path("end").exists():
        await asyncio.sleep(0.02)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({{"type": "lifespan.startup.complete"}})
        await end()
        {after}
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"served"}})
"""

# As Starlette's: the failure arrives as an exception group, where the app yields.
FRAMEWORK = """
import contextlib
import anyio
from pathlib import Path
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def consume():
    while not Path("end").exists():
        await anyio.sleep(0.02)
    raise ValueError("the broker is gone")

@contextlib.asynccontextmanager
async def lifespan(app):
    async with anyio.create_task_group() as group:
        group.start_soon(consume)
        yield

async def index(request):
    return PlainTextResponse("served")

app = Starlette(routes=[Route("/", index)], lifespan=lifespan)
"""

# How it ends: source, and the words that must be in the log once.
ENDS = {
    "raises": (
        RAW.format(after="raise ValueError('the broker is gone')"),
        ["ValueError: the broker is gone", "Traceback", "main.py"],
    ),
    "task group": (
        FRAMEWORK,
        ["ValueError: the broker is gone", "Traceback", "in consume"],
    ),
    "returns": (RAW.format(after="return"), ["the app returned"]),
    "is cancelled": (
        RAW.format(after="raise asyncio.CancelledError"),
        ["CancelledError()"],
    ),
    "exits": (RAW.format(after="raise SystemExit(3)"), ["SystemExit(3)"]),
    "fails unasked": (
        RAW.format(
            after="return await send({'type': 'lifespan.shutdown.failed',"
            " 'message': 'the broker is gone'})"
        ),
        ["the broker is gone"],
    ),
    "shuts down unasked": (
        RAW.format(after="return await send({'type': 'lifespan.shutdown.complete'})"),
        ["the app has shut down"],
    ),
    "sends nonsense": (
        RAW.format(after="await send({'type': 'lifespan.startup.complete'})"),
        ["Unexpected ASGI lifespan message 'lifespan.startup.complete'"],
    ),
}


@pytest.mark.parametrize("way", ENDS)
def test_a_lifespan_that_ends_while_serving_is_said_once(
    serve: Serve, way: str
) -> None:
    source, words = ENDS[way]
    service = serve(source)
    workers = service.workers()
    assert ENDED not in service.log
    (service.directory / "end").touch()
    service.wait_log(rf"\[ERROR\] {ENDED}: ")
    assert service.get().text == "served"
    assert service.workers() == workers

    assert service.stop() == 0
    for word in words:
        assert word in service.log
    assert service.log.count("[ERROR]") == 1
    assert "Exception ignored" not in service.log
    assert "never retrieved" not in service.log
