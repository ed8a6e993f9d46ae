"""Any bytes, cut anywhere: the protocol answers or ends, and never fails.

Each example runs on a real socket pair and a real loop, with the real app.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager
from itertools import pairwise

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from uvworker.http.limits import Limits
from uvworker.http.phases import Phase
from uvworker.http.protocol import HTTPProtocol

from . import apps

LIMITS = Limits(request_line=200, fields=5, field_size=100, max_body_size=1000)

# The table at the door of `reading`.
TRANSITIONS = {
    Phase.FRESH: {Phase.HEAD, Phase.DEAF},
    Phase.IDLE: {Phase.HEAD, Phase.DEAF},
    Phase.HEAD: {Phase.BODY, Phase.DEAF},
    Phase.BODY: {Phase.IDLE, Phase.DONE, Phase.DEAF},
    Phase.DONE: {Phase.DEAF},
    Phase.DEAF: set(),
}


class Checked(HTTPProtocol.configured(limits=LIMITS)):
    """Holds the reading to its table."""

    __slots__ = ()

    def __setattr__(self, name, value):
        if name == "phase" and hasattr(self, "phase"):
            before = self.phase
            assert value is before or value in TRANSITIONS[before], (before, value)
        super().__setattr__(name, value)

    def start_over(self):
        object.__setattr__(self, "phase", Phase.IDLE)
        super().start_over()


async def _exchange(pieces: list[bytes]) -> tuple[bytes, list[BaseException]]:
    """Send the pieces, one loop turn each, and return all that comes back."""
    loop = asyncio.get_running_loop()
    failures: list[BaseException] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    config = uvicorn.Config(
        apps.path, log_config=None, proxy_headers=False, ws="websockets-sansio"
    )
    state = ServerState()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    _, protocol = await loop.connect_accepted_socket(
        lambda: Checked(config=config, server_state=state, app_state={}), ours
    )
    theirs.setblocking(False)
    for piece in pieces:
        try:
            await loop.sock_sendall(theirs, piece)
        except OSError:
            break
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(protocol.headers) <= LIMITS.fields
    received = b""
    try:
        theirs.shutdown(socket.SHUT_WR)
        while data := await loop.sock_recv(theirs, 65536):
            received += data
    except OSError:
        pass
    theirs.close()
    while state.connections or state.tasks:
        await asyncio.sleep(0)
    return received, failures


@contextmanager
def _loop():
    loop = asyncio.new_event_loop()
    try:
        yield loop
    finally:
        loop.close()


def exchange(pieces: list[bytes]) -> bytes:
    with _loop() as loop:
        received, failures = loop.run_until_complete(
            asyncio.wait_for(_exchange(pieces), 10)
        )
    assert not failures
    return received


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(edges)]


WORDS = st.sampled_from(
    [
        b"GET ",
        b"POST ",
        b"HEAD ",
        b"CONNECT ",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"/",
        b"/a?b#c",
        b"http://h?x",
        b"*",
        b"a:1",
        b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
        b" HTTP/2.0\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"Host: h\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 50000\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Connection: close\r\n",
        b"Connection: keep-alive\r\n",
        b"Connection: upgrade\r\nUpgrade: h2c\r\n",
        b"Connection: upgrade\r\nUpgrade: websocket\r\n",
        b"Expect: 100-continue\r\n",
        b"X_Y: 1\r\n",
        b" folded\r\n",
        b"hello",
        b"5\r\nhello\r\n",
        b"5;a=b\r\nhello\r\n",
        b"0\r\n\r\n",
        b"0\r\nTrailer: x\r\n\r\n",
        b"ffffffffff\r\n",
        b"a" * 300,
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    ]
)
GARBAGE = st.lists(st.one_of(WORDS, WORDS, st.binary(max_size=20)), max_size=14)
PLACES = st.lists(st.integers(0, 5000), max_size=8)

LIMITED = settings(max_examples=120, deadline=None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@LIMITED
@given(GARBAGE.map(b"".join), PLACES)
def test_whatever_comes_is_answered_or_ended(data, places):
    received = exchange(cut(data, places))
    assert not received or received.startswith(b"HTTP/1.1 ")
    assert b"500" not in received[:12]


METHODS = st.sampled_from([b"GET", b"POST", b"DELETE"])
PATHS = st.from_regex(rb"/[a-z0-9%]{0,20}", fullmatch=True).map(
    lambda path: path.replace(b"%", b"%41")
)


@st.composite
def requests(draw) -> tuple[bytes, bytes]:
    """Draw a good request, and the path that the app answers with."""
    path = draw(PATHS)
    head = b"%b %b HTTP/1.1\r\nHost: h\r\n" % (draw(METHODS), path)
    if draw(st.booleans()):
        head += b"Connection: upgrade\r\nUpgrade: h2c\r\n"
    body = draw(st.binary(max_size=40))
    kind = draw(st.integers(0, 2))
    if kind == 0:
        return head + b"\r\n", path
    if kind == 1:
        return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body), path
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:]) if part
    )
    trailer = draw(st.sampled_from([b"", b"X: y\r\n"]))
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    return head + chunks + b"0\r\n" + trailer + b"\r\n", path


@LIMITED
@given(st.lists(requests(), min_size=1, max_size=5), PLACES)
def test_good_requests_have_the_same_answers_wherever_they_are_cut(pairs, places):
    data = b"".join(request for request, _ in pairs)
    last = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    received = exchange(cut(data + last, places))
    bodies = [
        part.partition(b"\r\n\r\n")[2] for part in received.split(b"HTTP/1.1 200 OK")
    ]
    assert bodies[1:] == [*(path for _, path in pairs), b"/last"]
