"""The example app under the production configuration: what `make serve` runs."""

from __future__ import annotations

from pathlib import Path

import httpx
from websockets.sync.client import connect

from tests.conftest import Serve
from tests.tools.service import PATIENCE, Service, wait_for

ROOT = Path(__file__).parents[3]


def example(serve: Serve) -> Service:
    conf, chdir = ROOT / "conf" / "gunicorn.conf.py", ROOT / "examples"
    args = ("-c", str(conf), "--chdir", str(chdir), "-w", "4")
    return serve("", *args, wait=4)


def test_the_example_does_what_it_shows(serve: Serve) -> None:
    service = example(serve)
    with httpx.Client(base_url=service.url, timeout=PATIENCE) as client:
        assert "says hello" in client.get("/").text

        items = [{"name": "tea", "price": 3.5}, {"name": "pot", "price": 20}]
        receipt = client.post("/orders", json={"items": items}).json()
        assert receipt["count"] == 2
        assert receipt["total"] == 23.5
        assert receipt["worker"] in service.workers()
        # On the same connection, so from the same worker, once its background task ran.
        wait_for(
            lambda: client.get("/orders/count").json()["orders"] == 1,
            "the order in the journal",
        )
        assert client.post("/orders", json={"items": []}).status_code == 422

        upload = client.post("/upload", files={"file": ("a.bin", b"x" * 200_000)})
        assert upload.json() == {"name": "a.bin", "bytes": 200_000}

        events = client.get("/events").text
        assert events.count("data: worker") == 5

    with connect(
        f"ws://127.0.0.1:{service.port}/echo", open_timeout=PATIENCE
    ) as socket:
        socket.send("hello")
        assert socket.recv() == "hello"

    assert service.stop() == 0
    assert service.out.count(" opened ") == 4
    assert service.out.count(" closed ") == 4
