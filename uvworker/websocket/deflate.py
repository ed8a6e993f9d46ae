"""Compression of messages: permessage-deflate, RFC 7692.

Rule: what a connection may cost is bounded here. The window is 4 kB where the client
can be asked for it; nothing is allocated before it is used; what is inflated stops at
the size that the reader allows.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from .frames import COMPRESSED, INVALID_DATA, PROTOCOL_ERROR, TOO_BIG, Failure

NAME = b"permessage-deflate"

# Bits of the window, and zlib's memLevel: a compressor takes 32 kB with these and
# 256 kB with zlib's own. Messages are short; uvicorn and websockets choose the same.
WINDOW_BITS, MEMORY_LEVEL = 12, 5
LARGEST_WINDOW_BITS = 15  # of a client that cannot be asked for less: 32 kB

# A shorter message is sent as it is: it would shrink by less than a packet's head.
WORTHWHILE = 64  # bytes

TAIL = b"\x00\x00\xff\xff"  # an empty block, which is not sent: section 7.2.1

_BITS = re.compile(rb'(?P<quote>")?(?P<bits>8|9|1[0-5])(?(quote)")')


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was agreed on in a handshake; the defaults are ours."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = WINDOW_BITS
    client_max_window_bits: int = LARGEST_WINDOW_BITS

    def header(self) -> bytes:
        """Return the value of `Sec-WebSocket-Extensions` that says so."""
        parts = [NAME, b"server_max_window_bits=%d" % self.server_max_window_bits]
        if self.client_max_window_bits != LARGEST_WINDOW_BITS:
            parts.append(b"client_max_window_bits=%d" % self.client_max_window_bits)
        if self.server_no_context_takeover:
            parts.append(b"server_no_context_takeover")
        if self.client_no_context_takeover:
            parts.append(b"client_no_context_takeover")
        return b"; ".join(parts)


def agree(offers: Iterable[bytes]) -> Agreement | None:
    """Take the first offer that can be kept; None: compress nothing.

    Args:
        offers: the values of `Sec-WebSocket-Extensions`.

    """
    for offer in b",".join(offers).split(b","):
        name, *parameters = (part.strip() for part in offer.split(b";"))
        if name == NAME:
            agreement = _read(parameters)
            if agreement is not None:
                return agreement
    return None


def _read(parameters: list[bytes]) -> Agreement | None:
    """Read an offer; one that is malformed is declined: section 7.1."""
    agreed: dict[str, int | bool] = {}
    for parameter in parameters:
        name, equals, value = (part.strip() for part in parameter.partition(b"="))
        agree_on = _PARAMETERS.get(name)
        key = name.decode("latin-1")
        agreed_value = agree_on(value if equals else None) if agree_on else None
        if agreed_value is None or key in agreed:
            return None
        agreed[key] = agreed_value
    return Agreement(**agreed)  # type: ignore[arg-type]  # each by its own function


def _flag(value: bytes | None) -> bool | None:
    return True if value is None else None


def _server_bits(value: bytes | None) -> int | None:
    bits = _BITS.fullmatch(value or b"")
    # zlib cannot compress with a window of 8 bits, and takes 9.
    if bits is None or bits["bits"] == b"8":
        return None
    return min(int(bits["bits"]), WINDOW_BITS)


def _client_bits(value: bytes | None) -> int | None:
    if value is None:
        return WINDOW_BITS
    bits = _BITS.fullmatch(value)
    return None if bits is None else min(int(bits["bits"]), WINDOW_BITS)


_PARAMETERS = {
    b"server_no_context_takeover": _flag,
    b"client_no_context_takeover": _flag,
    b"server_max_window_bits": _server_bits,
    b"client_max_window_bits": _client_bits,
}


class Deflate:
    """The two contexts of one connection."""

    __slots__ = ("_compressor", "_inflater", "_used", "agreement")

    def __init__(self, agreement: Agreement) -> None:
        self.agreement = agreement
        self._compressor: zlib._Compress | None = None
        self._inflater: zlib._Decompress | None = None
        self._used = False

    def shrink(self, first: int, payload: bytes) -> tuple[int, bytes]:
        """Return a whole message's first byte and payload, compressed if that pays."""
        if len(payload) < WORTHWHILE:
            return first, payload
        return first | COMPRESSED, self._compress(payload)

    def _compress(self, payload: bytes) -> bytes:
        compressor = self._compressor
        if compressor is None:
            bits = self.agreement.server_max_window_bits
            compressor = zlib.compressobj(wbits=-bits, memLevel=MEMORY_LEVEL)
            if not self.agreement.server_no_context_takeover:
                self._compressor = compressor
        self._used = True
        return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]

    def inflate(self, payload: bytes, room: int, *, last: bool) -> bytes:
        """Return what a frame holds.

        Args:
            payload: of one frame.
            room: bytes that may come out.
            last: it ends its message.

        Raises:
            Failure: it holds more, or is not what it says.

        """
        inflater = self._inflater or self._new_inflater()
        whole = payload + TAIL if last else payload
        try:
            inflated = inflater.decompress(whole, min(room, sys.maxsize - 1) + 1)
        except zlib.error:
            raise Failure(INVALID_DATA, "a message cannot be inflated") from None
        if len(inflated) > room:
            raise Failure(TOO_BIG, "the message is longer than ws_max_size")
        if inflater.eof:
            # A final block, which ends the message, too: section 7.2.3.4. What is
            # behind it can only be padding, and the tail.
            padding = inflater.unused_data.removesuffix(TAIL if last else b"")
            if padding not in (b"", b"\x00"):
                raise Failure(PROTOCOL_ERROR, "a message goes on behind its end")
            if last:
                inflater = self._new_inflater(inflated)
        done = last and self.agreement.client_no_context_takeover
        self._inflater = None if done else inflater
        return inflated

    def rest(self) -> None:
        """Let go of what an idle connection need not hold: its compressor.

        A message may always begin anew; only the client's window has to be kept.
        """
        if not self._used:
            self._compressor = None
        self._used = False

    def _new_inflater(self, window: bytes = b"") -> zlib._Decompress:
        # Clients that say 8 may mean 9, as zlib does.
        bits = max(9, self.agreement.client_max_window_bits)
        return zlib.decompressobj(-bits, zdict=window[-(1 << bits) :])
