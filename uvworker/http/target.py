"""What a request target says: RFC 9112 section 3.2, for the ASGI scope."""

from __future__ import annotations

from urllib.parse import unquote

import httptools


def split(target: bytes) -> tuple[bytes, bytes]:
    """Return the path and the query of a request target, both still encoded.

    Args:
        target: in origin, absolute or asterisk form, as llhttp let it through.

    Raises:
        httptools.HttpParserError: the authority form, or no URL at all.

    """
    if target[:1] == b"/" and b"#" not in target:
        path, _, query = target.partition(b"?")
        return path, query
    url = httptools.parse_url(target)
    return url.path or b"/", url.query or b""


def decode(path: bytes) -> str:
    """Return a path as the scope's `path`: percent-decoded, then read as UTF-8.

    Raises:
        UnicodeDecodeError: *path* is not ASCII, which no request target may be.

    """
    text = path.decode("ascii")
    return unquote(text) if "%" in text else text
