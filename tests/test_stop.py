"""How a worker ends: TERM, INT and QUIT, to the arbiter or to one worker."""

from __future__ import annotations

from .conftest import Serve

APP = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("lifespan closed", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    seconds = float(scope["query_string"] or 0)
    print("request began", flush=True)
    await asyncio.sleep(seconds)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})
"""


def test_term_stops_an_idle_service_cleanly(serve: Serve) -> None:
    service = serve(APP, "-w", "2", wait=2)
    assert service.get().text == "done"
    assert service.stop() == 0
    assert service.out.count("lifespan closed") == 2
    assert "ERROR" not in service.log
    assert "WARNING" not in service.log
