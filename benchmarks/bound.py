"""The bound: what httptools, uvloop and one task per request cost, and nothing else.

``python bound.py PORT APP``. It is no server: it reads no header, runs no ASGI, has no
limit, deadline or log, and answers what the app of that name would.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import httptools
import uvloop
from apps import CHUNK, CHUNKS, GREETING


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


async def main(port: int, app: str) -> None:
    Bound.answer = getattr(Bound, app)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Bound, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
