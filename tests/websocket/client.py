"""What a WebSocket client says, as bytes; and the little that one has to understand."""

from __future__ import annotations

import random

from uvworker.websocket.frames import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT

__all__ = ["BINARY", "CLOSE", "CONTINUATION", "FIN", "PING", "PONG", "TEXT"]

HANDSHAKE = (
    b"GET %b HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
ACCEPTED = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # that key's answer: RFC 6455 section 1.3


def handshake(*lines: bytes, path: bytes = b"/") -> bytes:
    """Return a request for a WebSocket, with further *lines* in its head."""
    return HANDSHAKE % path + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    flags: int = 0,
    mask: bytes | None = b"\x01\x02\x03\x04",
    length: bytes | None = None,
) -> bytes:
    """Return a frame; *length* is written in place of the right one."""
    first = opcode | (FIN if fin else 0) | flags
    if length is None:
        length = _length(len(payload))
    masked = 0 if mask is None else 0x80
    head = bytes((first, length[0] | masked)) + length[1:]
    if mask is None:
        return head + payload
    return head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


def _length(size: int) -> bytes:
    if size < 126:
        return bytes((size,))
    if size < 1 << 16:
        return b"\x7e" + size.to_bytes(2, "big")
    return b"\x7f" + size.to_bytes(8, "big")


def text(said: str) -> bytes:
    return frame(TEXT, said.encode())


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


def fragments(opcode: int, payload: bytes, count: int) -> list[bytes]:
    """Return a message in *count* frames, cut anywhere."""
    cuts = sorted(random.Random(count).choices(range(len(payload) + 1), k=count - 1))
    parts = [
        payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)
    ]
    return [
        frame(opcode if i == 0 else CONTINUATION, part, fin=i == count - 1)
        for i, part in enumerate(parts)
    ]
