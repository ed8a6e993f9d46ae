"""The request target and Host: RFC 9112 section 3.2, for the ASGI scope.

Rule: a request that names no host, or can be read as naming two, is refused: caches and
password resets rely on the host.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from urllib.parse import unquote

import httptools

from ..accept.peers import LAST_PORT
from .head import Header
from .refusal import malformed

HOST = b"host"

# Numbers: `in` finds a byte by its number seven times faster than as a string.
SLASH, FRAGMENT = b"/#"

# Good values of Host that are cached; honest clients send few.
KNOWN_HOSTS = 1024

SHOWN = 64  # bytes of a bad value in the log

# RFC 3986 section 3.2.2, without the comma: it joins two fields into one (RFC 9110
# section 5.3), and no name has it. An empty port is allowed, a port alone is not.
_HOST = re.compile(
    rb"(?:\[(?P<literal>[0-9A-Fa-f:.]+)\]"
    rb"|\[v[0-9A-Fa-f]+\.[\w.~!$&'()*+;=:-]+\]"
    rb"|(?:[\w.~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+)"
    rb"(?::(?P<port>[0-9]{0,5}))?"
)
_AUTHORITY = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")


def read(target: bytes, headers: list[Header]) -> tuple[str, bytes, bytes]:
    """Return the scope's `path`, and the path and the query as on the wire.

    Args:
        target: in origin, absolute or asterisk form, as llhttp accepts it.
        headers: of the request; the host of an absolute target replaces Host, as RFC
            9112 section 3.2.2 demands.

    Raises:
        httptools.HttpParserError: the target has authority form, or is not a URL.
        UnicodeDecodeError: the target is not ASCII.
        Refusal: an absolute target names no host, or a user.

    """
    if target[0] == SLASH and FRAGMENT not in target:
        raw_path, _, query = target.partition(b"?")
    else:
        url = httptools.parse_url(target)
        raw_path, query = url.path or b"/", url.query or b""
        if (authority := _AUTHORITY.match(target)) is not None:
            _override_host(headers, authority[1])
    path = raw_path.decode("ascii")
    return unquote(path) if "%" in path else path, raw_path, query


def check_hosts(count: int, version: str) -> None:
    """Refuse a head with two Host fields, or without one where HTTP demands it.

    Raises:
        Refusal: with 400, as RFC 9112 section 3.2 demands.

    """
    if count:
        raise malformed("more than one Host field")
    if version > "1.0":
        raise malformed("no Host field, which HTTP/1.1 demands")


@lru_cache(KNOWN_HOSTS)
def check_host(value: bytes) -> None:
    """Refuse a malformed value of Host. An empty one is valid: no host is named.

    Raises:
        Refusal: with 400, as RFC 9112 section 3.2 demands.

    """
    match = _HOST.fullmatch(value)
    if value and not (
        match
        and (match["literal"] is None or _is_address(match["literal"]))
        and int(match["port"] or 0) <= LAST_PORT
    ):
        raise malformed(f"malformed Host {value[:SHOWN].decode('latin-1')!r}")


def _is_address(literal: bytes) -> bool:
    try:
        IPv6Address(literal.decode())
    except AddressValueError:
        return False
    return True


def _override_host(headers: list[Header], authority: bytes) -> None:
    """Replace Host by the host of an absolute target."""
    if not authority:
        raise malformed("an absolute request target without a host")
    check_host(authority)
    headers[:] = [
        (HOST, authority),
        *(field for field in headers if field[0] != HOST),
    ]
