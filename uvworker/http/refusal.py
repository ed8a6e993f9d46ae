"""Requests that are refused and never reach the app.

Rule: a refusal is raised as an exception where the fault is found, and answered in one
place, after the responses to earlier requests. It closes the connection: after a fault
it is unknown where the next request begins.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

from .head import END, STATUS_LINES, Header, lines

logger = logging.getLogger("uvicorn.error")

# Log lines for each turn of the clock (about a second) and worker. A scanner or a
# fuzzer sends thousands of requests; the first few are logged, the rest are counted.
LINES_A_TURN = 5

# Seconds that a client should wait when the worker is full. In a second a queue of
# ordinary requests shrinks.
RETRY_AFTER = (b"retry-after", b"1")

# Reasons, the same for HTTP/1.1 and HTTP/2.
LINE_TOO_LONG = "the request line is longer than limit_request_line"
FIELD_TOO_LONG = "a field is longer than limit_request_field_size"
TOO_MANY_FIELDS = "there are more fields than limit_request_fields"
BODY_TOO_LONG = "the body is longer than max_body_size"

PLAIN_TEXT = (b"content-type", b"text/plain; charset=utf-8")


class Refusal(Exception):  # noqa: N818 - an answer, not an error
    """A request that is answered with *status* instead of by the app.

    Args:
        status: 400 to 599.
        reason: for the log, one clause; if empty, nothing is logged.
        headers: added to those that every refusal has.
        text: for the client; the status's phrase if empty.

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
        """Return the response; *defaults* are the lines of `server` and `date`."""
        head = STATUS_LINES[self.status] + defaults + lines(self.headers) + END
        return head if head_only else head + self.body


def malformed(reason: str) -> Refusal:
    """Return the refusal of what is not HTTP, or what two parsers may read apart."""
    return Refusal(400, reason, text="Invalid HTTP request received.")


class RefusalLog:
    """The log lines about refused requests, at most `LINES_A_TURN` a turn."""

    def __init__(self) -> None:
        self._turn = 0
        self._count = 0

    def write(
        self, turn: int, refusal: Refusal, peer: tuple[str, int] | None, what: str
    ) -> None:
        """Log one line that says *what* was refused, and to whom, or count it."""
        if not refusal.reason:
            return
        if turn != self._turn:
            if self._count > LINES_A_TURN:
                logger.warning("%d more refused.", self._count - LINES_A_TURN)
            self._turn, self._count = turn, 0
        self._count += 1
        if self._count <= LINES_A_TURN:
            logger.warning(
                "Refused %s from %s with %d: %s.",
                what,
                f"{peer[0]}:{peer[1]}" if peer else "a unix socket",
                refusal.status,
                refusal.reason,
            )
