"""Server-sent events: the parts of the page that have changed, once a second.

The rule: a stream ends by itself, at the latest after `LIFE`, when its client leaves,
and when the thread does. So it holds no stop, and a client that has vanished is
dropped. A browser connects again by itself, perhaps to another worker.

Source: the HTML standard, section 9.2, Server-sent events.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..app.asgi import Receive, Send

TYPE = b"text/event-stream; charset=utf-8"
STREAMS = 8  # of a worker at a time
PERIOD = 1.0  # seconds between two events
LIFE = 25.0  # seconds; shorter than `request_timeout` of the operator's listener
RETRY = 500  # milliseconds until a browser connects again

Parts = Mapping[str, str]  # HTML by the id of an element


class EventStreams:
    """The streams of one worker; *parts* returns what the page says now."""

    def __init__(self, parts: Callable[[], Parts]) -> None:
        self._parts = parts
        self._open = 0
        self._leaving = asyncio.Event()
        self._made_at = 0.0
        self._made: Parts = {}

    @property
    def full(self) -> bool:
        """Whether there are as many streams as there may be."""
        return self._open >= STREAMS

    def leave(self) -> None:
        """End all streams."""
        self._leaving.set()

    async def send(self, receive: Receive, send: Send) -> None:
        """Send events, as the body of a response whose head is sent already."""
        self._open += 1
        ends = [
            asyncio.ensure_future(end)
            for end in (_disconnected(receive), self._leaving.wait())
        ]
        try:
            await self._send(ends, send)
        finally:
            self._open -= 1
            for end in ends:
                end.cancel()

    async def _send(self, ends: Sequence[asyncio.Future[Any]], send: Send) -> None:
        deadline = time.monotonic() + LIFE
        said: dict[str, str] = {}
        head = f"retry: {RETRY}\n"
        while time.monotonic() < deadline:
            new = {k: v for k, v in self._now().items() if said.get(k) != v}
            said.update(new)
            event = f"{head}data: {json.dumps(new)}\n\n".encode()
            await send({"type": "http.response.body", "body": event, "more_body": True})
            done, _ = await asyncio.wait(
                ends, timeout=PERIOD, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                break
            head = ""
        await send({"type": "http.response.body", "body": b""})

    def _now(self) -> Parts:
        """Return the parts of this moment, made once for all streams."""
        now = time.monotonic()
        if now - self._made_at > PERIOD / 2:
            self._made_at, self._made = now, self._parts()
        return self._made


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
