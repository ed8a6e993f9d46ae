"""WebSocket load: every connection sends a message, awaits its echo, sends again.

``python chat.py PORT SECONDS CONNECTIONS SIZE`` prints the figures that wrk would. The
frames are made beforehand: a client that costs more than the server would measure
itself. It offers no extension, so that no server compresses.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import uvloop

MASK = bytes(4)  # any four bytes are a mask; these leave the text as it is
SHORT = 126  # bytes of text that no longer fit into a short frame

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
ACCEPTED = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # the answer to that key, RFC 6455 1.3


def frame(size: int, *, mask: bytes = b"") -> bytes:
    """Return a text message of *size* bytes, below 64 kB."""
    masked = 0x80 if mask else 0
    if size < SHORT:
        head = bytes((0x81, masked | size))
    else:
        head = bytes((0x81, masked | SHORT)) + size.to_bytes(2, "big")
    return head + mask + b"x" * size


class Chat(asyncio.Protocol):
    """One connection; *latencies*, in µs, is shared by all."""

    def __init__(self, latencies: list[float], size: int) -> None:
        self.latencies = latencies
        self.echo, self.message = frame(size), frame(size, mask=MASK)
        self.received = b""
        self.failed = False
        self.talking = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.talking:
            self.shake()
        elif self.received == self.echo:
            self.latencies.append((time.perf_counter() - self.sent) * 1e6)
            self.say()
        elif len(self.received) >= len(self.echo):
            self.fail()

    def shake(self) -> None:
        if self.received.endswith(b"\r\n\r\n"):
            self.talking = ACCEPTED in self.received
            if self.talking:
                self.say()
            else:
                self.fail()

    def say(self) -> None:
        self.received = b""
        self.sent = time.perf_counter()
        self.transport.write(self.message)

    def fail(self) -> None:
        self.failed = True
        self.transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self.failed = True


async def main(port: int, seconds: float, connections: int, size: int) -> None:
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    began = time.perf_counter()
    chats = [
        await loop.create_connection(lambda: Chat(latencies, size), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.sleep(seconds)
    figures = {
        "requests": len(latencies),
        "seconds": time.perf_counter() - began,
        "p99": sorted(latencies)[len(latencies) * 99 // 100] if latencies else 0.0,
        "failures": 0,
        "closed": sum(chat.failed for _, chat in chats),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    port, seconds, connections, size = sys.argv[1:]
    uvloop.run(main(int(port), float(seconds), int(connections), int(size)))
