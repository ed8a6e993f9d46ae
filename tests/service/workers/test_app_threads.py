"""Synchronous endpoints: their threads are kept from one request to the next."""

from __future__ import annotations

import pytest

from tests.conftest import Serve
from tests.tools.service import wait_for

# Starlette, as FastAPI, runs a synchronous endpoint in a thread of AnyIO's.
SYNCHRONOUS = """
import threading
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

def index(request):
    return PlainTextResponse(str(threading.get_native_id()))

app = Starlette(routes=[Route("/", index)])
"""

# What it imports late; watchfiles, which uvicorn imports if it can, imports it early.
LATE = """
import threading

async def app(scope, receive, send):
    assert scope["type"] == "http"
    import anyio.to_thread
    thread = await anyio.to_thread.run_sync(threading.get_native_id)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(thread).encode()})
"""
WITHOUT_WATCHFILES = "import sys; sys.modules['watchfiles'] = None"

ASYNCIO = "import sys; sys.modules['uvloop'] = None"


@pytest.mark.parametrize("conf", ["", ASYNCIO], ids=["uvloop", "asyncio"])
def test_requests_share_a_thread(serve: Serve, conf: str) -> None:
    """A new thread for each costs more than the request, and loses what is kept by it.

    That is, connections to a database, and all else in a ``threading.local``.
    """
    service = serve(SYNCHRONOUS, conf=conf)
    assert len({service.get().text for _ in range(10)}) == 1


def test_requests_share_a_thread_soon_after_a_late_import(serve: Serve) -> None:
    service = serve(LATE, conf=WITHOUT_WATCHFILES)
    first, second = service.get().text, service.get().text
    assert first != second, "it was imported early, and this shows nothing"
    wait_for(lambda: service.get().text == service.get().text, "the same thread")
