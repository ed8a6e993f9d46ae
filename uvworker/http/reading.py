"""The reading half of a connection: bytes to requests, within limits.

The rule: this half never looks at responses. It parses, counts, and goes through
phases; what it finds it hands over by `admit` (a good head) and `refuse` (a fault)::

    FRESH  nothing has come          -> HEAD, DEAF
    IDLE   between two requests      -> HEAD, DEAF
    HEAD   a head is coming          -> BODY, DEAF
    BODY   a body may be coming      -> IDLE, DONE, DEAF
    DONE   the last request is read  -> DEAF
    DEAF   whatever comes is dropped

The grammar is llhttp's in its safe mode, which refuses whatever two parsers might read
differently: two lengths, a length beside a coding, bare line ends, folded fields.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from typing import TYPE_CHECKING, Any

import httptools

from .limits import UNLIMITED
from .refusal import (
    BODY_TOO_LONG,
    FIELD_TOO_LONG,
    LINE_TOO_LONG,
    TOO_MANY_FIELDS,
    Refusal,
    malformed,
)

if TYPE_CHECKING:
    from .cycle import Cycle
    from .limits import Limits
    from .responsehead import Header

logger = logging.getLogger("uvicorn.error")

# Bytes of body that wait for the app before the client has to: uvicorn's number.
HIGH_WATER = 65536

UNDERSCORE = ord("_")  # `in` finds a number seven times faster than a string


class Phase(enum.Enum):
    """How far the reading of a connection is."""

    FRESH = enum.auto()
    IDLE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    DONE = enum.auto()
    DEAF = enum.auto()


# Globals, as an attribute of an Enum costs a descriptor call on Python 3.10.
FRESH, IDLE, HEAD, BODY, DONE, DEAF = Phase


class Enough(Exception):  # noqa: N818 - no error: it only stops the parser
    """No further request of this connection will be read."""


class Nobody:
    """Stands where the parser stood."""

    def feed_data(self, data: bytes) -> None:
        """Drop it."""


NOBODY = Nobody()


class Reading(asyncio.Protocol):
    """A connection as far as its requests are read; the callbacks are httptools'."""

    transport: asyncio.Transport
    url: bytes
    headers: list[Header]
    incoming: Cycle | None  # the request whose body is being read

    __slots__ = (
        "_mark",
        "_parser",
        "_paused",
        "_silent",
        "headers",
        "incoming",
        "limits",
        "phase",
        "transport",
        "url",
    )

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.phase = FRESH
        self.url = b""
        self.headers = []
        self.incoming = None
        self._paused = False
        self._silent = self._mark = 0

    # -- what the other half does with it, and for it

    def admit(self, method: str, version: str, *, keep_alive: bool) -> Cycle:
        """Make a request of a good head; *keep_alive* is what the client says."""
        raise NotImplementedError

    def serve(self, cycle: Cycle) -> None:
        """Answer the request in its turn."""
        raise NotImplementedError

    def refuse(self, refusal: Refusal) -> None:
        """Answer a fault in its turn, and read no more."""
        raise NotImplementedError

    def upgrade(self, rest: bytes) -> None:
        """Act on a head that asks for another protocol; *rest* came behind it."""
        raise NotImplementedError

    def keeps(self, name: bytes) -> bool:
        """Tell whether a field with an underscore in its name reaches the app."""
        raise NotImplementedError

    def waiting(self, *, begun: bool) -> None:
        """Set deadlines: a read ended in the midst of a request, or has *begun* it."""
        raise NotImplementedError

    def open_parser(self) -> None:
        """Begin to read, or begin anew."""
        self._parser: Any = httptools.HttpRequestParser(self)
        limits = self.limits
        if limits.permit_obsolete_folding or limits.permit_unconventional_http_version:
            self._parser.set_dangerous_leniencies(
                lenient_headers=limits.permit_obsolete_folding,
                lenient_version=limits.permit_unconventional_http_version,
            )

    def stop_listening(self) -> None:
        """Drop whatever comes from now on, the rest of what is half read too.

        This also breaks the circle of references that a parser and its callbacks are.
        """
        self.phase = DEAF
        self._parser = NOBODY

    def at_method(self) -> bool:
        """Tell whether the next byte belongs to a method."""
        return self.phase in (FRESH, IDLE) or (self.phase is HEAD and not self.url)

    def pause_reading(self) -> None:
        """Let the client wait."""
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Let the client go on."""
        if self._paused:
            self._paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    # -- asyncio

    def data_received(self, data: bytes) -> None:
        """Parse; all else happens in the callbacks below."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            fault = error
        else:
            if self.phase is not IDLE:
                self._pending(len(data))
            return
        # Out here, as it would be the context of what is raised meanwhile, and a
        # callback's own error is told by its context.
        try:
            if isinstance(fault, httptools.HttpParserUpgrade):
                self.upgrade(data[fault.args[0] :])
            else:
                self._stop(fault)
        finally:
            del fault  # its traceback holds this frame, and the frame what was read

    def _stop(self, error: httptools.HttpParserError) -> None:
        """End the reading, for a fault or because it is enough."""
        cause = error.__context__ if error.__context__ is not None else error
        if self.phase is DONE or self.phase is DEAF or isinstance(cause, Enough):
            return
        if isinstance(cause, Refusal):
            self.refuse(cause)
        elif isinstance(cause, (httptools.HttpParserError, UnicodeError)):
            self.refuse(malformed(str(cause)))
        else:
            logger.error("Exception in the HTTP protocol\n", exc_info=cause)
            self.refuse(Refusal(500))

    def _pending(self, size: int) -> None:
        """Count what the parser holds back or drops: no callback tells of it.

        llhttp hands out a field when the next one begins, and chunk extensions
        never. *size* bytes that moved nothing are all of that kind.
        """
        if self.phase is HEAD:
            progress = len(self.headers)
        elif self.phase is BODY and self.incoming is not None:
            progress = len(self.headers) + self.incoming.received
        else:
            return
        begun = self._mark < 0
        self._silent = self._silent + size if progress == self._mark else 0
        self._mark = progress
        # A request line and the first field come in one silence.
        if self._silent > self.limits.request_line + self.limits.field_size:
            self.refuse(self._endless())
        else:
            self.waiting(begun=begun)

    def _endless(self) -> Refusal:
        if self.phase is BODY:
            return malformed("endless chunk framing")
        if len(self.url) > self.limits.request_line:
            return Refusal(414, LINE_TOO_LONG)
        return Refusal(431, FIELD_TOO_LONG)

    # -- httptools

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self.phase is not IDLE and self.phase is not FRESH:
            raise Enough
        self.phase = HEAD
        self.url = b""
        self._mark = -1
        if self.headers:  # the trailers of the request before
            self.headers = []

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request target."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one field, of the head or of the trailers: both are limited alike."""
        limits, headers = self.limits, self.headers
        # The line as gunicorn counts it, with its colon, a space and its end.
        if len(name) + len(value) + 4 > limits.field_size:
            raise Refusal(431, FIELD_TOO_LONG)
        if len(headers) >= limits.fields:
            raise Refusal(431, TOO_MANY_FIELDS)
        name = name.lower()
        if UNDERSCORE in name and not self.keeps(name):
            return
        headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Hand over a good head."""
        parser = self._parser
        method = parser.get_method().decode("ascii")
        limits = self.limits
        # The line as gunicorn counts it: two spaces and "HTTP/1.1" besides.
        if len(method) + len(self.url) + 10 > limits.request_line:
            raise Refusal(414, LINE_TOO_LONG)
        if parser.should_upgrade():
            return  # upgrade() will decide; until then the phase is HEAD
        version = parser.get_http_version()
        if version != "1.1":
            self._check_version(version)
        if limits.max_body_size is not UNLIMITED:
            self._check_length()
        keep_alive = parser.should_keep_alive()
        self.incoming = cycle = self.admit(method, version, keep_alive=keep_alive)
        # The fields of the head are the scope's from here on; what may come now are
        # trailers, which never get there.
        self.headers = []
        self.phase = BODY
        self.serve(cycle)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body, or drop it if its response is complete."""
        cycle = self.incoming
        if cycle is None:
            return
        cycle.received += len(body)
        if cycle.received > self.limits.max_body_size:
            raise Refusal(413, BODY_TOO_LONG)
        if not (cycle.complete or cycle.lost):
            cycle.feed(body)
            if cycle.buffered > HIGH_WATER:
                self.pause_reading()

    def on_message_complete(self) -> None:
        """End a request."""
        cycle = self.incoming
        if self.phase is not BODY or cycle is None:
            return
        self.phase = IDLE if cycle.keep_alive else DONE
        cycle.more_body = False
        if cycle.news is not None:
            cycle.news.set()

    # -- checks that few requests need

    def _check_version(self, version: str) -> None:
        if version == "1.0":
            # RFC 9112 section 6.1: its framing must be taken for faulty.
            if any(name == b"transfer-encoding" for name, _ in self.headers):
                raise malformed("Transfer-Encoding in HTTP/1.0")
        elif not self.limits.permit_unconventional_http_version:
            raise malformed(f"HTTP version {version}")

    def _check_length(self) -> None:
        for name, value in self.headers:
            if name == b"content-length" and int(value) > self.limits.max_body_size:
                raise Refusal(413, BODY_TOO_LONG)

    def describe(self) -> dict[str, Any]:
        """Return what is known of a request that was refused before its head ended."""
        path, _, query = self.url.partition(b"?")
        version = self._parser.get_http_version()
        return {
            "type": "http",
            "method": self._parser.get_method().decode("ascii") if self.url else "",
            "path": path.decode("latin-1"),
            "raw_path": path,
            "query_string": query,
            "http_version": "1.1" if version == "0.0" else version,
            "headers": self.headers,
        }
