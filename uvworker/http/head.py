"""From an app's `http.response.start` to the bytes of a response head.

Rule: every app sends exactly one well-framed response. The lines that frame it
(`content-length`, `transfer-encoding`) are read and written again, once, so that no app
can announce two lengths or split a response.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

Header = tuple[bytes, bytes]

# Real apps use a few dozen names; the bound is for an app that invents names.
CACHED_NAMES = 1024

CONTENT_LENGTH = b"\r\ncontent-length: "
TRANSFER_ENCODING = b"\r\ntransfer-encoding: "
CONNECTION = b"\r\nconnection: "
END = b"\r\n\r\n"
CLOSE = b"\r\nconnection: close" + END

SERVER = b"\r\nserver: "
DATE = b"\r\ndate: "

# Lines that are read; all others are written as they are.
READ = frozenset((CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, SERVER, DATE))

# RFC 9113 section 8.2.2: fields of a connection, which no stream has. Apps written for
# HTTP/1.1 send them, and the client would have to take the response for malformed.
OF_A_CONNECTION = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    )
)

# All bytes below a space except the tab, and DEL: RFC 9110 section 5.5.
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
NOT_MODIFIED = 304  # its framing describes the response that is not sent
BODILESS = UNFRAMED | {NOT_MODIFIED}


class HeaderNames(dict[bytes, bytes]):
    """Maps a header's name, as the app writes it, to the beginning of its line."""

    def __missing__(self, name: bytes) -> bytes:
        if not TOKEN.fullmatch(name):
            raise ValueError("a name is not a token")
        beginning = b"\r\n" + name.lower() + b": "
        if len(self) < CACHED_NAMES:
            self[name] = beginning
        return beginning


NAMES = HeaderNames()


# The bytes of the head; the bytes of body owed, None if that is not known; whether the
# body is chunked; whether the connection stays open. A plain tuple: to make a named one
# costs a tenth of the whole head.
Head = tuple[bytes, "int | None", bool, bool]


def compose(  # noqa: PLR0917 - all that a head depends on
    status: int,
    headers: Iterable[Header],
    defaults: bytes,
    head_only: bool,
    chunks: bool,
    keep_alive: bool,
) -> Head:
    """Return a response head; arguments are positional, which is cheaper.

    Args:
        status: 100 to 599.
        headers: as in `http.response.start`, any iterable.
        defaults: the server's own lines, as `lines()` joins them; `server` and `date`
            of the app's replace them.
        head_only: the request's method is HEAD.
        chunks: the client understands chunked coding, which HTTP/1.0 does not.
        keep_alive: the connection may stay open; if not, or if the app closes it, the
            head announces the close.

    Raises:
        Exception: a name, a value or the status cannot be sent as it is; `fault()`
            says which, and why.

    """
    parts: list[bytes] = []
    length: bytes | None = None
    codings: tuple[bytes, ...] = ()
    announced = False
    for name, value in headers:
        beginning = NAMES[name]
        if beginning in READ:
            if beginning == CONTENT_LENGTH:
                if not value.isdigit() or length not in (None, value):
                    raise ValueError("content-length is not a number, or there are two")
                length = value
                continue
            if beginning == TRANSFER_ENCODING:
                codings += (value,)
                continue
            if beginning != CONNECTION:
                defaults = _without(beginning, defaults)
            elif b"close" in _tokens(value):
                keep_alive, announced = False, True
        parts += (beginning, value)
    block = b"".join(parts)
    # Every line has two controls, its line end; one more is an attack, or a mistake
    # that looks like one. One pass is far cheaper than a search in each line.
    if len(block) - len(block.translate(None, CONTROLS)) != len(parts):
        raise ValueError("a value has a control character")
    if length is None or codings or head_only or status in BODILESS:
        framing, owed, chunked = _frame(status, length, codings, head_only, chunks)
    else:
        framing, owed, chunked = CONTENT_LENGTH + length, int(length), False
    closing = END if keep_alive or announced else CLOSE
    wire = b"".join((STATUS_LINES[status], defaults, block, framing, closing))
    return wire, owed, chunked, keep_alive


def fault(status: object, headers: object) -> str | None:
    """Return why a head cannot be composed; None if that is not known.

    It names headers but not their values, which may be secrets.
    """
    if not isinstance(status, int) or status not in STATUS_LINES:
        return f"its status, {status!r}, is not a number from 100 to 599"
    if not isinstance(headers, list):
        return f"its headers are not pairs but {_kind(headers)}"
    return next(filter(None, map(_fault_of, headers)), None)


def _fault_of(header: Any) -> str | None:
    try:
        name, value = header
    except (TypeError, ValueError):
        return f"a header is not a pair of name and value but {_kind(header)}"
    if not isinstance(name, bytes):
        return f"the name of its header {name!r} is not bytes but {_kind(name)}"
    if not TOKEN.fullmatch(name):
        return f"the name of its header {name!r} is empty or has a bad character"
    if not isinstance(value, (bytes, bytearray, memoryview)):
        return f"the value of its header {name!r} is not bytes but {_kind(value)}"
    if bytes(value).translate(None, CONTROLS) != bytes(value):
        return f"the value of its header {name!r} has a line break or another control"
    return None


def _kind(thing: object) -> str:
    return type(thing).__name__


def lines(headers: Iterable[Header]) -> bytes:
    """Join headers that are valid into the lines of a head."""
    return b"".join(b"\r\n" + name + b": " + value for name, value in headers)


def _without(beginning: bytes, defaults: bytes) -> bytes:
    beginning = beginning.removeprefix(b"\r\n")
    kept = defaults.split(b"\r\n")[1:]
    return b"".join(b"\r\n" + line for line in kept if not line.startswith(beginning))


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
    """Put "chunked" last, as RFC 9112 section 6.1 demands."""
    named = [coding for value in codings for coding in _tokens(value)]
    return b", ".join([*(name for name in named if name != b"chunked"), b"chunked"])


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip().lower() for token in value.split(b",")]
