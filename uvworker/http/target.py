"""What a request target says: RFC 9112 section 3.2, for the ASGI scope."""

from __future__ import annotations

from urllib.parse import unquote

import httptools

# Numbers, as `in` finds a byte by its number seven times faster than as a string.
SLASH, FRAGMENT = b"/#"


def read(target: bytes) -> tuple[str, bytes, bytes]:
    """Return the scope's `path`, and the path and the query as they came.

    Args:
        target: in origin, absolute or asterisk form, as llhttp let it through.

    Raises:
        httptools.HttpParserError: the authority form, or no URL at all.
        UnicodeDecodeError: not ASCII, which no request target may be.

    """
    if target[0] == SLASH and FRAGMENT not in target:
        raw_path, _, query = target.partition(b"?")
    else:
        url = httptools.parse_url(target)
        raw_path, query = url.path or b"/", url.query or b""
    path = raw_path.decode("ascii")
    return unquote(path) if "%" in path else path, raw_path, query
