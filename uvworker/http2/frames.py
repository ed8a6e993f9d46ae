"""The few frames that are read or written beside zttp, which has no setting for them.

Rule: pure functions of bytes (RFC 9113 section 4.1), and less is allowed to a client
than zttp allows, never more: zttp holds it to its own limits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

HEAD = 9  # bytes: length, type, flags, stream
WINDOW_UPDATE = 8  # a type
SETTING = struct.Struct(">HI")  # name and value: section 6.5.1
GRANT = struct.Struct(">3sBBII")


def lowered(frame: bytes, ceilings: Mapping[int, int]) -> bytes:
    """Return a SETTINGS *frame* in which no value is above its ceiling."""
    settings = [
        SETTING.pack(name, min(value, ceilings.get(name, value)))
        for name, value in SETTING.iter_unpack(frame[HEAD:])
    ]
    return frame[:HEAD] + b"".join(settings)


def frames(data: bytes) -> Iterator[bytes]:
    """Yield each of the whole frames in *data*."""
    at = 0
    while at < len(data):
        end = at + HEAD + int.from_bytes(data[at : at + 3], "big")
        yield data[at:end]
        at = end


def window_of(frame: bytes) -> tuple[int, int]:
    """Return the stream and the bytes that a frame grants it; zeros if it does not."""
    if frame[3] != WINDOW_UPDATE:
        return 0, 0
    return int.from_bytes(frame[5:HEAD], "big"), int.from_bytes(frame[HEAD:], "big")


def grant(stream: int, size: int) -> bytes:
    """Return the frame that lets a client send *size* bytes more on *stream*."""
    return GRANT.pack(b"\0\0\4", WINDOW_UPDATE, 0, stream, size)
