"""Requests that are answered here and never reach the app.

Rule: a refusal is raised where the fault is seen, as an exception, and answered in
one place, in its turn behind the responses that are still owed. Whatever is refused
costs the connection: after a fault nobody knows where the next request begins.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

from .responsehead import END, STATUS_LINES, Header, lines

logger = logging.getLogger("uvicorn.error")

# Log lines a turn of the sweep, so about a second, for one worker. A scanner or a
# fuzzer sends thousands; the first few tell all, and the rest are counted.
COMPLAINTS = 5

# Seconds; what a client with patience is asked for when the worker is full. A second
# is what a queue of ordinary requests takes to shrink.
RETRY_AFTER = (b"retry-after", b"1")

# Why, by the limit: the same words for HTTP/1.1 and HTTP/2.
LINE_TOO_LONG = "the request line is longer than limit_request_line"
FIELD_TOO_LONG = "a field is longer than limit_request_field_size"
TOO_MANY_FIELDS = "there are more fields than limit_request_fields"
BODY_TOO_LONG = "the body is longer than max_body_size"

PLAIN_TEXT = (b"content-type", b"text/plain; charset=utf-8")


class Refusal(Exception):  # noqa: N818 - an answer, and no error of ours
    """A request that gets *status* instead of the app.

    Args:
        status: 400 to 599.
        reason: for the log, one clause; empty if it is not worth a line.
        headers: besides those that every refusal has.
        text: for the client; the status's own phrase if empty.

    """

    def __init__(
        self, status: int, reason: str = "", *headers: Header, text: str = ""
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.body = (text or HTTPStatus(status).phrase).encode("ascii")
        self.headers: list[Header] = [
            PLAIN_TEXT,
            *headers,
            (b"content-length", b"%d" % len(self.body)),
            (b"connection", b"close"),
        ]

    def render(self, defaults: bytes, *, head_only: bool) -> bytes:
        """Return the whole response; *defaults* are the server's own lines."""
        head = STATUS_LINES[self.status] + defaults + lines(self.headers) + END
        return head if head_only else head + self.body


def malformed(reason: str) -> Refusal:
    """Refuse what is no HTTP, or what two parsers might read differently."""
    return Refusal(400, reason, text="Invalid HTTP request received.")


class Complaints:
    """The log lines about refused requests, at most `COMPLAINTS` a turn."""

    def __init__(self) -> None:
        self._turn = 0
        self._count = 0

    def tell(self, turn: int, refusal: Refusal, peer: tuple[str, int] | None) -> None:
        """Log one line that names the *peer*, or count it."""
        if not refusal.reason:
            return
        if turn != self._turn:
            if self._count > COMPLAINTS:
                logger.warning("%d more requests refused.", self._count - COMPLAINTS)
            self._turn, self._count = turn, 0
        self._count += 1
        if self._count <= COMPLAINTS:
            logger.warning(
                "Refused a request from %s with %d: %s.",
                f"{peer[0]}:{peer[1]}" if peer else "a unix socket",
                refusal.status,
                refusal.reason,
            )
