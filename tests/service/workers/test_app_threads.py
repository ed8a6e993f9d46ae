"""Synchronous endpoints: their threads are kept from one request to the next."""

from __future__ import annotations

import pytest

from tests.conftest import Serve

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

ASYNCIO = "import sys; sys.modules['uvloop'] = None"


@pytest.mark.parametrize("conf", ["", ASYNCIO], ids=["uvloop", "asyncio"])
def test_requests_share_a_thread(serve: Serve, conf: str) -> None:
    """A new thread for each costs more than the request, and loses what is kept by it.

    That is, connections to a database, and all else in a ``threading.local``.
    """
    service = serve(SYNCHRONOUS, conf=conf)
    assert len({service.get().text for _ in range(10)}) == 1
