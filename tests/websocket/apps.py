"""ASGI apps that the WebSocket tests serve."""

from __future__ import annotations

import asyncio
from typing import Any

RECEIVE = "websocket.receive"
ACCEPT = {"type": "websocket.accept"}


def say(data: str | bytes) -> dict[str, Any]:
    key = "text" if isinstance(data, str) else "bytes"
    return {"type": "websocket.send", key: data}


async def echo(_scope, receive, send) -> None:
    await receive()
    await send(ACCEPT)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


class Told:
    """An app that accepts and then keeps all that it is told.

    *messages*: are sent one after the other, and what that raises is kept.
    *reads*: until the disconnect; else it ends behind them.
    """

    def __init__(self, *messages: dict[str, Any], reads: bool = True) -> None:
        self.messages = messages
        self.reads = reads
        self.told: list[dict[str, Any]] = []
        self.raised: list[BaseException] = []
        self.scope: dict[str, Any] = {}

    async def __call__(self, scope, receive, send) -> None:
        self.scope = scope
        self.loop = asyncio.get_running_loop()
        self.told.append(await receive())
        for message in self.messages:
            try:
                await send(message)
            except Exception as error:  # noqa: BLE001, PERF203
                self.raised.append(error)
        while self.reads and self.told[-1]["type"] != "websocket.disconnect":
            self.told.append(await receive())

    @property
    def farewell(self) -> dict[str, Any] | None:
        """The disconnect, once it was told."""
        last = self.told[-1] if self.told else {}
        return last if last.get("type") == "websocket.disconnect" else None


async def never(_scope, _receive, _send) -> None:
    """Wait for ever."""
    await asyncio.Event().wait()


class Held:
    """An app that accepts, reads nothing until it is let go, and then all.

    *accepts*: or it ends without an answer when it is let go.
    """

    def __init__(self, *, accepts: bool = True) -> None:
        self.accepts = accepts
        self.read: list[dict[str, Any]] = []
        self.farewell: dict[str, Any] | None = None

    async def __call__(self, _scope, receive, send) -> None:
        self.loop, self._go = asyncio.get_running_loop(), asyncio.Event()
        await receive()
        if self.accepts:
            await send(ACCEPT)
        await self._go.wait()
        while self.accepts and (message := await receive())["type"] == RECEIVE:
            self.read.append(message)
        self.farewell = message if self.accepts else None

    def let_go(self) -> None:
        self.loop.call_soon_threadsafe(self._go.set)
