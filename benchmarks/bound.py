"""The bound: the cost of httptools, uvloop and one task per request, and nothing else.

``python bound.py PORT APP``. It is not a server: it reads no header, runs no ASGI app,
has no limit, deadline or log, and gives the answer of the app of that name.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import httptools
import uvloop
from apps import CHUNK, CHUNKS, GREETING, api


class Bound(asyncio.Protocol):
    answer: ClassVar[Callable[[Bound], None]]

    def connection_made(self, transport: Any) -> None:
        self.write, self.close = transport.write, transport.close
        self.loop = asyncio.get_running_loop()
        self.parser = httptools.HttpRequestParser(self)
        self.body: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def connection_lost(self, _error: Exception | None) -> None:
        del self.write, self.close, self.parser  # or the collector has to find them

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        self.stays = self.parser.should_keep_alive()
        self.loop.create_task(self.run())

    async def run(self) -> None:
        self.answer()
        if not self.stays:
            self.close()

    def whole(self, body: bytes) -> None:
        head = (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n"
        )
        self.write(head % len(body) + body)

    def plain(self) -> None:
        self.whole(GREETING)

    def echo(self) -> None:
        self.whole(b"".join(self.body))
        self.body.clear()

    def stream(self) -> None:
        self.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(CHUNKS):
            self.write(b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK))
        self.write(b"0\r\n\r\n")


class Framework(Bound):
    """FastAPI with next to nothing around it: what no ASGI server can be below."""

    scope: ClassVar[dict[str, Any]] = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "root_path": "",
        "path": "/items/1",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")],
        "state": {},
    }

    async def run(self) -> None:
        await api(self.scope.copy(), self.receive, self.send)
        if not self.stays:
            self.close()

    async def receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            lines = [b"%b: %b\r\n" % header for header in message["headers"]]
            self.head = b"".join([b"HTTP/1.1 200 OK\r\n", *lines, b"\r\n"])
        else:
            self.write(self.head + message["body"])


async def main(port: int, app: str) -> None:
    kind: type[Bound] = Framework
    if app != "api":
        kind, Bound.answer = Bound, getattr(Bound, app)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(kind, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
