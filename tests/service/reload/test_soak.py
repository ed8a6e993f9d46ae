"""Nothing is kept of a request: a worker that has served long weighs what it weighed.

``UVWORKER_SOAK=206 pytest -m soak`` sends 200,000 requests.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.tools.service import Service

SOAK = int(os.environ.get("UVWORKER_SOAK", "6"))  # rounds
WARM_UP = 3  # rounds, in which caches fill and the allocator takes what it needs
TOGETHER = 50  # requests that a client sends before it reads the answers
REQUESTS = 1000  # in a round
GROWTH = 5e6  # bytes

# No two answers have the same header names, and no two requests the same target.
APP = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
    name = b"x-" + scope["path"][1:].encode()
    headers = [(name, scope["query_string"]), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})
"""

BODY = b"content-length: 10000\r\n\r\n" + bytes(10000)
CHUNKED = b"transfer-encoding: chunked\r\n\r\n" + b"3e8\r\n%b\r\n" % bytes(1000) * 10
CUT_SHORT = b"content-length: 10000\r\n\r\n" + bytes(5000)


def memory(worker: int) -> int:
    pages = int(Path(f"/proc/{worker}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def heads(start: bytes) -> Iterator[bytes]:
    """Yield request heads without their end, each of them new."""
    for number in itertools.count():
        target = b"/%b%d?%d" % (start, number, number)
        yield b"POST %b HTTP/1.1\r\nhost: %b%d\r\n" % (target, start, number)


def exchange(service: Service, sent: bytes, answer: bytes, count: int = 1) -> None:
    """Send bytes, wait until *answer* has come *count* times, and hang up."""
    with service.connect() as client:
        client.sendall(sent)
        received = b""
        while received.count(answer) < count:
            piece = client.recv(65536)
            assert piece, f"closed after {received!r}"
            received += piece


def leave(service: Service, sent: bytes) -> None:
    """Send bytes and reset the connection."""
    with service.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sendall(sent)


def soak(service: Service, new: Iterator[bytes]) -> None:
    """Send `REQUESTS` requests: most as usual, some with bodies, some gone wrong."""
    for _ in range(REQUESTS // (TOGETHER + 4)):
        several = b"".join(next(new) + b"\r\n" for _ in range(TOGETHER))
        exchange(service, several, b"\r\n\r\nok", TOGETHER)
        exchange(service, next(new) + BODY, b"\r\n\r\nok")
        exchange(service, next(new) + CHUNKED + b"0\r\n\r\n", b"\r\n\r\nok")
        exchange(service, next(new) + b"no field\r\n\r\n", b"HTTP/1.1 400 ")
        leave(service, next(new) + CUT_SHORT)


@pytest.mark.soak
def test_memory_stays_what_it_is(serve: Serve, tmp_path: Path):
    service = serve(APP, "--access-logfile", str(tmp_path / "access"))
    (worker,) = service.workers()
    new = heads(b"a")
    for _ in range(WARM_UP):
        soak(service, new)
    before = memory(worker)
    for _ in range(SOAK):
        soak(service, new)
    assert memory(worker) - before < GROWTH
    assert service.workers() == [worker]
