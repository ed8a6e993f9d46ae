"""How much a client may send, and how long it may take: one frozen table.

Rule: what is not limited says so (`UNLIMITED`, `None`), so that no reader of a limit
has to know that zero means "none" in gunicorn's settings.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

UNLIMITED = sys.maxsize  # bytes or fields; compares with every size as "smaller"

# Sizes that gunicorn, and so this table, writes as 0 when they are off.
_SIZES = ("request_line", "fields", "field_size", "max_body_size")


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one worker, the same for all of its connections.

    The defaults are uvicorn's, which knows none of these, except `header_timeout`:
    a connection that is not served must not be held for ever.

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
    permit_obsolete_folding: bool = False
    permit_unconventional_http_version: bool = False
    casefold_http_method: bool = False

    def __post_init__(self) -> None:
        for name in _SIZES:
            object.__setattr__(self, name, getattr(self, name) or UNLIMITED)
