"""From an app's `http.response.start` to the bytes of a response head.

Rule: whatever an app sends, one well-framed response goes out. The lines that frame
it (`content-length`, `transfer-encoding`) are read here and written again, once, so
that no app can announce two lengths or split a response in two.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Header = tuple[bytes, bytes]

# Real apps use a few dozen names; the bound is for one that makes them up.
CACHED_NAMES = 1024

CONTENT_LENGTH = b"\r\ncontent-length: "
TRANSFER_ENCODING = b"\r\ntransfer-encoding: "
CONNECTION = b"\r\nconnection: "
END = b"\r\n\r\n"
CLOSE = b"\r\nconnection: close" + END

FRAMING = frozenset((CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION))

# Everything below a space but the tab, and DEL: RFC 9110 section 5.5.
CONTROLS = bytes({*range(0x20), 0x7F} - {0x09})

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}".encode("ascii")


STATUS_LINES = {status: _status_line(status) for status in range(100, 600)}

# Never a body, and no framing header either: RFC 9110 section 8.6, RFC 9112 6.1.
UNFRAMED = frozenset((*range(100, 200), 204))
NOT_MODIFIED = 304  # what its framing says is of the response that is not sent
SPECIAL = UNFRAMED | {NOT_MODIFIED}


class HeaderNames(dict[bytes, bytes]):
    """A header's name as the app writes it, to the line's beginning on the wire."""

    def __missing__(self, name: bytes) -> bytes:
        if not TOKEN.fullmatch(name):
            raise RuntimeError("Invalid HTTP header name.")
        beginning = b"\r\n" + name.lower() + b": "
        if len(self) < CACHED_NAMES:
            self[name] = beginning
        return beginning


NAMES = HeaderNames()


# The bytes; how many of body are owed, None if only the last chunk or the connection's
# end will tell; whether they go in chunks; whether the connection goes on. A plain
# tuple, as making a named one costs a tenth of the whole head.
Head = tuple[bytes, "int | None", bool, bool]


def compose(  # noqa: PLR0917 - all that a head depends on
    status: int,
    headers: Iterable[Header],
    defaults: bytes,
    head_only: bool,
    chunks: bool,
    keep_alive: bool,
) -> Head:
    """Write a response head; the arguments go by position, which is cheaper.

    Args:
        status: 100 to 599.
        headers: as in `http.response.start`, any iterable.
        defaults: the server's own lines, as `lines()` joins them.
        head_only: the request's method is HEAD.
        chunks: the client understands chunked coding, which HTTP/1.0 does not.
        keep_alive: the connection may go on; if not, or if the app closes it, the
            head announces it.

    Raises:
        RuntimeError: a name or a value would not arrive as it was meant.

    """
    parts: list[bytes] = []
    length: bytes | None = None
    codings: tuple[bytes, ...] = ()
    announced = False
    for name, value in headers:
        beginning = NAMES[name]
        if beginning in FRAMING:
            if beginning == CONTENT_LENGTH:
                if not value.isdigit() or length not in (None, value):
                    raise RuntimeError("Invalid HTTP header value: content-length.")
                length = value
                continue
            if beginning == TRANSFER_ENCODING:
                codings += (value,)
                continue
            if b"close" in _tokens(value):
                keep_alive, announced = False, True
        parts += (beginning, value)
    block = b"".join(parts)
    # Every line brought two controls, its own line end; one more is an attack, or
    # a mistake that reads like one. A single pass, far cheaper than a search each.
    if len(block) - len(block.translate(None, CONTROLS)) != len(parts):
        raise RuntimeError("Invalid HTTP header value.")
    if length is None or codings or head_only or status in SPECIAL:
        framing, owed, chunked = _frame(status, length, codings, head_only, chunks)
    else:
        framing, owed, chunked = CONTENT_LENGTH + length, int(length), False
    closing = END if keep_alive or announced else CLOSE
    wire = b"".join((STATUS_LINES[status], defaults, block, framing, closing))
    return wire, owed, chunked, keep_alive


def lines(headers: Iterable[Header]) -> bytes:
    """Join headers that are known to be valid into the lines of a head."""
    return b"".join(b"\r\n" + name + b": " + value for name, value in headers)


def _frame(
    status: int,
    length: bytes | None,
    codings: tuple[bytes, ...],
    head_only: bool,
    chunks: bool,
) -> tuple[bytes, int | None, bool]:
    """Return the framing line, the bytes owed, and whether they go in chunks."""
    if status in UNFRAMED:
        return b"", 0, False
    bodiless = head_only or status == NOT_MODIFIED
    if length is not None and not (codings and chunks):
        return CONTENT_LENGTH + length, 0 if bodiless else int(length), False
    if bodiless:
        return b"", 0, False
    if chunks:
        return TRANSFER_ENCODING + _chunked(codings), None, True
    return b"", None, False


def _chunked(codings: tuple[bytes, ...]) -> bytes:
    """Put "chunked" last, where it has to be: RFC 9112 section 6.1."""
    named = [coding for value in codings for coding in _tokens(value)]
    return b", ".join([*(name for name in named if name != b"chunked"), b"chunked"])


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip().lower() for token in value.split(b",")]
