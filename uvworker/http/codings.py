"""Transfer codings: RFC 9112 sections 6.1 and 7.

Rule: only "chunked" is understood, and the end of a body is never guessed.
"""

from __future__ import annotations

from .head import Header
from .refusal import Refusal, malformed

TRANSFER_ENCODING = b"transfer-encoding"
CHUNKED = b"chunked"
TE = b"te"
TRAILERS = b"trailers"


def check(headers: list[Header], version: str) -> None:
    """Refuse every transfer coding but a single "chunked".

    This happens before the app starts: llhttp finds out only after the head that a
    body has no end.

    Raises:
        Refusal: 501 for a coding below "chunked", 400 if the end of the body is not
            certain, which in HTTP/1.0 it never is.

    """
    named = b",".join(value for name, value in headers if name == TRANSFER_ENCODING)
    *others, last = (coding.strip(b" \t") for coding in named.lower().split(b","))
    fault = f"Transfer-Encoding {named.decode('latin-1')!r} in HTTP/{version}"
    if version == "1.0" or last != CHUNKED or CHUNKED in others or b"" in others:
        raise malformed(fault)
    if others:
        raise Refusal(501, fault)


def takes_trailers(value: bytes) -> bool:
    """Tell whether a `TE` field asks for trailers: RFC 9110 section 10.1.4."""
    codings = value.lower().split(b",")
    return any(coding.partition(b";")[0].strip() == TRAILERS for coding in codings)
