"""How much a client may send, and how long it may take: one frozen table.

Rule: no limit is `UNLIMITED` or `None`, so that code that reads a limit need not know
that 0 means "no limit" in gunicorn's settings.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

UNLIMITED = sys.maxsize  # bytes or fields; larger than every size

# Sizes that gunicorn, and so the caller, writes as 0 for no limit.
_SIZES = ("request_line", "fields", "field_size", "max_body_size")


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one worker, the same for all of its connections.

    The defaults are uvicorn's, which has no limits, except for `header_timeout`: a
    connection without a request must not stay open for ever.

    Args:
        request_line: gunicorn's `limit_request_line`, bytes of the request line;
            more is answered 414. 0 is no limit.
        fields: gunicorn's `limit_request_fields`, per head and per trailer
            section; more is answered 431. 0 is no limit.
        field_size: gunicorn's `limit_request_field_size`, bytes of one field with
            its line end; more is answered 431. 0 is no limit.
        max_body_size: bytes of a request's body; more is answered 413. 0: no limit.
        header_timeout: seconds from a request's first byte, or from the accept, to
            the end of its head; later is answered 408. None: no limit.
        body_timeout: seconds that a body may stall while the app reads it; then
            408, or a cut if the response has begun. None: no limit.
        request_timeout: seconds of the app for one response; then 504, or a cut if
            the response has begun. None: no limit.
        disconnect_grace: gunicorn's `asgi_disconnect_grace_period`, seconds from
            the client's leaving to the cancellation of the app. None: never.
        stream_stall: gunicorn's `timeout`, seconds that an HTTP/2 client may leave a
            response without a window; then its stream is reset. None: no limit.
        streams: gunicorn's `http2_max_concurrent_streams`, requests at a time
            of one HTTP/2 connection; more are refused.
        header_list: gunicorn's `http2_max_header_list_size`, bytes of all fields
            of one head over HTTP/2; more is answered 431.
        permit_obsolete_folding: gunicorn's; folded header lines are accepted.
        permit_unconventional_http_version: gunicorn's; versions other than 1.0 and
            1.1 are accepted.
        casefold_http_method: gunicorn's; see `casefold.py`.

    """

    request_line: int = 0
    fields: int = 0
    field_size: int = 0
    max_body_size: int = 0
    header_timeout: float | None = 30.0
    body_timeout: float | None = None
    request_timeout: float | None = None
    disconnect_grace: float | None = None
    stream_stall: float | None = 30.0
    streams: int = 100
    header_list: int = 65536
    permit_obsolete_folding: bool = False
    permit_unconventional_http_version: bool = False
    casefold_http_method: bool = False

    def __post_init__(self) -> None:
        for name in _SIZES:
            object.__setattr__(self, name, getattr(self, name) or UNLIMITED)
