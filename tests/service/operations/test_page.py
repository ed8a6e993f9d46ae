"""The operator's page over HTTP: its events, its memory, and whom it never holds up."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from typing_extensions import Self

from tests.conftest import HELLO
from tests.tools.apps import LIFE
from tests.tools.service import PATIENCE, wait_for
from uvworker.operations.events import STREAMS

from .conftest import Operate, Operated

RAISES = """
import logging.config

logging.config.dictConfig({
    "version": 1,
    "handlers": {"own": {"class": "logging.StreamHandler"}},
    "loggers": {"gunicorn.error": {"handlers": ["own"]}},
})

async def app(scope, receive, send):
    assert scope["type"] == "http"
    raise LookupError("<b>no such thing</b>")
"""


FORKS = """
import os, time
from pathlib import Path

async def app(scope, receive, send):
    assert scope["type"] == "http"
    Path("child-lives").touch()
    if os.fork() == 0:
        while Path("child-lives").exists():
            time.sleep(0.02)
        os._exit(0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
"""


class Stream:
    """A client of `/events`; as a context manager it leaves in the end."""

    def __init__(self, operated: Operated, method: str = "GET") -> None:
        host = operated.url.removeprefix("http://")
        self.connection = http.client.HTTPConnection(host, timeout=PATIENCE)
        self.connection.request(method, "/events")
        self.response = self.connection.getresponse()
        self.status = self.response.status

    def events(self) -> Iterator[dict[str, str]]:
        """Yield what is sent until the stream ends, which it must do in order."""
        while line := self.response.readline():
            if line.startswith(b"data: "):
                yield json.loads(line[6:])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.response.close()
        self.connection.close()


def status_of_events(operated: Operated, method: str = "GET") -> int:
    with Stream(operated, method) as stream:
        return stream.status


def peak(operated: Operated) -> float:
    """Return how many requests a second there were at most."""
    [text] = re.findall(r"Requests a second.*?peak ([\d.,]+)", operated.ask("/").text)
    return float(text)


def test_the_page_is_never_cached_and_runs_nothing_else(operate: Operate) -> None:
    answer = operate().ask("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_an_event_says_what_has_changed(operate: Operate) -> None:
    operated = operate(LIFE, "-w", "2", wait=2)
    with Stream(operated) as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        events = stream.events()
        first = next(events)
        assert {"title", "summary", "trend", "workers", "log", "service"} <= set(first)
        assert all(f">{pid}<" in first["workers"] for pid in operated.service.workers())
        second = next(events)
        assert "workers" in second  # their age
        assert "log" not in second


def test_there_are_only_so_many_streams_and_one_that_is_left_makes_room(
    operate: Operate,
) -> None:
    operated = operate()
    with ExitStack() as streams:
        for _ in range(STREAMS):
            last = streams.enter_context(Stream(operated))
            assert last.status == 200
        assert status_of_events(operated) == 503
        assert operated.asked("/readyz") == 200
        last.__exit__()
        wait_for(lambda: status_of_events(operated) == 200, "room for another stream")


@pytest.mark.parametrize("source", [HELLO, FORKS], ids=["alone", "with a child"])
def test_a_stream_ends_in_order_when_its_worker_stops(
    operate: Operate, source: str
) -> None:
    """Also where a child that the app forked lives on."""
    operated = operate(source)
    service = operated.service
    port = int(operated.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = client.recv(1000)
        assert received.startswith(b"HTTP/1.1 200")
        assert service.get().status_code == 200
        service.kill(signal.SIGTERM)
        while more := client.recv(100_000):
            received += more
    assert received.endswith(b"\r\n0\r\n\r\n")
    assert service.wait_exit() == 0
    (service.directory / "child-lives").unlink(missing_ok=True)
    wait_for(lambda: not service.session(), "the end of the child")
    assert "Traceback" not in service.log


def test_a_head_of_the_events_ends_at_once(operate: Operate) -> None:
    operated = operate()
    for _ in range(2 * STREAMS):
        wait_for(lambda: status_of_events(operated, "HEAD") == 200, "an answer")


def test_what_it_remembers_outlives_the_workers(operate: Operate) -> None:
    operated = operate(RAISES)
    assert operated.service.get().status_code == 500
    before = wait_for(lambda: peak(operated), "the request in the trend")
    [worker] = operated.service.workers()
    operated.service.kill(signal.SIGKILL, worker)
    operated.service.ready(2)
    assert peak(operated) == before
    status = operated.ask("/status.json").json()
    assert status["workers"][0]["last_error"] is None
    lines = [(line["worker"], line["pid"], line["text"]) for line in status["warnings"]]
    assert (
        0,
        worker,
        "Exception in ASGI application: LookupError: <b>no such thing</b>",
    ) in lines
    said = [text for who, _, text in lines if who is None]
    assert any(str(worker) in text for text in said), lines
    assert "&lt;b&gt;no such thing&lt;/b&gt;" in operated.ask("/").text


def test_the_last_reloads_are_there_with_their_outcome(operate: Operate) -> None:
    # gunicorn waits for so long before it handles a second HUP.
    operated = operate(HELLO, "--graceful-timeout", "3")
    service = operated.service
    main = service.directory / "main.py"

    def outcomes() -> list[str]:
        latest = operated.ask("/status.json").json()["reloads"]["latest"]
        return [reload["outcome"] for reload in latest]

    assert outcomes() == []
    main.write_text("raise RuntimeError('a broken release')")
    service.kill(signal.SIGHUP)
    wait_for(lambda: outcomes() == ["failed"], "the failed reload")
    main.write_text(HELLO)
    service.kill(signal.SIGHUP)
    wait_for(lambda: outcomes() == ["failed", "good"], "the good reload")
    text = operated.ask("/").text
    assert text.index("✔ worked") < text.index("✖ failed; old workers serve on")
    assert "a broken release" in text


def test_a_row_has_the_last_error_of_its_worker(operate: Operate) -> None:
    operated = operate(RAISES)
    assert operated.service.get().status_code == 500

    def last_error() -> str | None:
        [worker] = operated.ask("/status.json").json()["workers"]
        return worker["last_error"]

    error = wait_for(last_error, "the error in the status")
    assert error == "Exception in ASGI application: LookupError: <b>no such thing</b>"


@pytest.mark.parametrize("path", ["/", "/events"])
def test_a_page_of_another_host_reads_nothing(operate: Operate, path: str) -> None:
    assert operate().ask(path, host="evil.example").status_code == 421
