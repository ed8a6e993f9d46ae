"""The frames of a WebSocket as bytes: RFC 6455 section 5, without a socket.

Rule: what a client may send is decided here, from the first two bytes of a frame on:
no payload is waited for, unmasked or inflated that is not wanted.
"""

from __future__ import annotations

from struct import Struct
from typing import Protocol, TypeAlias

Buffer: TypeAlias = "bytes | bytearray | memoryview"


def unmask(data: Buffer, mask: Buffer) -> bytes:
    """Exclusive-or *data* with *mask*, over and over."""
    size = len(data)
    key = (bytes(mask) * (size // 4 + 1))[:size]
    plain = int.from_bytes(data, "little") ^ int.from_bytes(key, "little")
    return plain.to_bytes(size, "little")


try:
    from websockets.speedups import apply_mask
except ImportError:  # no websockets, or one without its C part
    apply_mask = unmask

CONTINUATION, TEXT, BINARY = 0, 1, 2
CLOSE, PING, PONG = 8, 9, 10

FIN, COMPRESSED, RESERVED, MASKED = 0x80, 0x40, 0x30, 0x80
WHOLE = frozenset((WHOLE_TEXT := FIN | TEXT, WHOLE_BINARY := FIN | BINARY))

# Close codes (RFC 6455 section 7.4.1, and IANA's registry).
NORMAL, PROTOCOL_ERROR, NO_CODE, ABNORMAL = 1000, 1002, 1005, 1006
INVALID_DATA, TOO_BIG, INTERNAL_ERROR, RESTART = 1007, 1009, 1011, 1012
CODES = frozenset((*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)))

SHORT = 125  # bytes of payload that the second byte of a frame can tell
REASON = SHORT - 2  # bytes of a close frame's reason

# Bytes beyond which a slice of what was read is taken without copying it: making the
# view costs what copying so many does.
VIEW = 2048

# Bytes that a compressed frame may have beyond an eighth more than the message.
SPARE = 64

# Text as str, all else as bytes; a message is whole.
Event: TypeAlias = "tuple[int, str | bytes]"

_SHORT, _MEDIUM, _LONG = Struct("!BB").pack, Struct("!BBH").pack, Struct("!BBQ").pack


class Inflater(Protocol):
    """The compression that was agreed on, as far as a reader of frames uses it."""

    def inflate(self, payload: bytes, room: int, *, last: bool) -> bytes:
        """Return what *payload*, the *last* of a message or not, is inflated.

        Raises:
            Failure: it cannot be inflated, or needs more than *room* bytes.

        """


class Failure(Exception):  # noqa: N818 - an answer, and no error of ours
    """What the client sent ends the connection: RFC 6455 section 7.1.7."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def head(first: int, size: int) -> bytes:
    """Return the head of a server's frame; *first* is its first byte."""
    if size <= SHORT:
        return _SHORT(first, size)
    if size < 1 << 16:
        return _MEDIUM(first, 126, size)
    return _LONG(first, 127, size)


def close(code: int, reason: str) -> bytes:
    """Return a close frame; a *reason* that does not fit is cut short.

    Without a code, which is `NO_CODE`, there is nothing in it.
    """
    if code == NO_CODE:
        return head(FIN | CLOSE, 0)
    said = reason.encode()[:REASON].decode(errors="ignore").encode()
    return head(FIN | CLOSE, 2 + len(said)) + code.to_bytes(2, "big") + said


def read_close(payload: bytes) -> tuple[int, str]:
    """Return code and reason of a client's close frame.

    Raises:
        Failure: it has half a code, one that must not be sent, or no UTF-8.

    """
    if not payload:
        return NO_CODE, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or code not in CODES:
        raise Failure(PROTOCOL_ERROR, "invalid close code")
    return code, decode(payload[2:])


def decode(payload: bytes | bytearray) -> str:
    """Read UTF-8, as section 8.1 asks for."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise Failure(INVALID_DATA, "invalid UTF-8") from None


class Decoder:
    """What one client sends: bytes in by `feed`, messages out by `next`.

    A caller that takes no more messages for a while leaves them here, as the bytes that
    they came in.

    Args:
        max_size: bytes of a message, inflated.
        deflate: if compression was agreed on.

    """

    __slots__ = (
        "_at",
        "_data",
        "_deflate",
        "_inflating",
        "_max_size",
        "_opcode",
        "_parts",
    )

    def __init__(self, max_size: int, deflate: Inflater | None = None) -> None:
        self._max_size = max_size
        self._deflate = deflate
        self._data: bytes | bytearray = b""
        self._at = 0  # where in it the next frame begins
        self._parts: bytearray | None = None  # of a message in fragments
        self._opcode = CONTINUATION
        self._inflating = False

    def feed(self, data: bytes) -> None:
        """Take bytes, behind those that are left."""
        rest, at = self._data, self._at
        if at == len(rest):
            self._data = data
        elif isinstance(rest, bytearray):
            del rest[:at]  # moves its beginning, and no bytes
            rest += data
        else:
            self._data = bytearray(memoryview(rest)[at:])
            self._data += data
        self._at = 0

    def next(self) -> Event | None:  # noqa: C901 - the path of each message
        """Return the next message or control frame; None until more bytes come.

        Raises:
            Failure: no more may be read.

        """
        data, at = self._data, self._at
        size = len(data)
        while size - at >= 2:  # noqa: PLR2004
            first, length = data[at], data[at + 1] - MASKED
            room = self._max_size
            if first not in WHOLE or length < 0 or self._parts is not None:
                room = self._room(first, length)
            mask = at + 2
            if length > SHORT:
                mask += 2 if length == SHORT + 1 else 8
                if mask > size:
                    break
                length = _length(data[at + 2 : mask])
            if length > room:
                raise Failure(TOO_BIG, "the message is longer than ws_max_size")
            start = mask + 4
            end = start + length
            if end > size:
                break
            self._at = at = end
            body = data[start:end] if length < VIEW else memoryview(data)[start:end]
            payload = apply_mask(body, data[mask:start])
            if first == WHOLE_TEXT:
                return TEXT, decode(payload)
            if first == WHOLE_BINARY:
                return BINARY, payload
            event = self._take(first, payload)
            if event is not None:
                return event
        if at == size:
            self._data, self._at = b"", 0  # hold no read longer than it takes
        return None

    def _room(self, first: int, length: int) -> int:
        """Return how long a frame may be, or fail if it may not come, or not now.

        Args:
            first: its first byte.
            length: as its second byte has it.

        """
        if length < 0:
            raise Failure(PROTOCOL_ERROR, "a frame is not masked")
        opcode = first & 0x0F
        if first & RESERVED or (first & COMPRESSED and self._deflate is None):
            raise Failure(PROTOCOL_ERROR, "reserved bits are set")
        if opcode > BINARY:
            _check_control(first, opcode, length)
            return SHORT
        if first & COMPRESSED and opcode == CONTINUATION:
            raise Failure(PROTOCOL_ERROR, "a fragment is marked as compressed")
        if (opcode == CONTINUATION) != (self._parts is not None):
            raise Failure(PROTOCOL_ERROR, "a fragment is out of order")
        room = self._max_size - len(self._parts or b"")
        if first & COMPRESSED or self._inflating:
            # What cannot be compressed grows; the limit is on what comes out.
            room += (room >> 3) + SPARE
        return room

    def _take(self, first: int, payload: bytes) -> Event | None:
        """Take a frame that is no whole message of its own, as it stands."""
        opcode = first & 0x0F
        if opcode > BINARY:
            return opcode, payload
        if opcode != CONTINUATION:
            self._opcode = opcode
            self._inflating = bool(first & COMPRESSED)
            self._parts = bytearray()
        parts, last = self._parts, bool(first & FIN)
        assert parts is not None
        if self._inflating:
            assert self._deflate is not None
            room = self._max_size - len(parts)
            payload = self._deflate.inflate(payload, room, last=last)
        parts += payload
        if not last:
            return None
        self._parts = None
        self._inflating = False
        return self._opcode, decode(parts) if self._opcode == TEXT else bytes(parts)


def _length(digits: bytes | bytearray) -> int:
    """Read an extended length, which has to need its bytes: section 5.2."""
    length = int.from_bytes(digits, "big")
    if length >> 63 or length <= (SHORT if len(digits) == 2 else 0xFFFF):  # noqa: PLR2004
        raise Failure(PROTOCOL_ERROR, "invalid length")
    return length


def _check_control(first: int, opcode: int, length: int) -> None:
    if not CLOSE <= opcode <= PONG:
        raise Failure(PROTOCOL_ERROR, "unknown opcode")
    if first & COMPRESSED or not first & FIN or length > SHORT:
        raise Failure(PROTOCOL_ERROR, "a control frame is too long or fragmented")
