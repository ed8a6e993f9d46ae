"""The reading half of a connection: bytes to requests, within limits.

Rule: this half never looks at responses. It parses, counts, and goes through `phases`;
a good head goes to `admit`, a fault to `refuse`.

The grammar is llhttp's in its safe mode, which refuses what two parsers might read
differently: two lengths, a length beside a coding, bare line ends, folded fields.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import Any

import httptools

from . import codings
from .codings import TE, TRANSFER_ENCODING, takes_trailers
from .cycle import Cycle
from .head import Header
from .limits import UNLIMITED, Limits
from .phases import BODY, DEAF, DONE, FRESH, HEAD, IDLE, Phase
from .refusal import (
    BODY_TOO_LONG,
    FIELD_TOO_LONG,
    LINE_TOO_LONG,
    TOO_MANY_FIELDS,
    Refusal,
    malformed,
)
from .target import HOST, check_host, check_hosts

logger = logging.getLogger("uvicorn.error")

# Bytes of body that wait for the app before reading pauses: uvicorn's number.
HIGH_WATER = 65536

HOST_SIZE = len(HOST)
CODING_SIZE = len(TRANSFER_ENCODING)
TE_SIZE = len(TE)
CODED = 1 << 32  # more than there can be fields
TRAILED = 1 << 64  # beside those counts, of a client that takes trailers

UNDERSCORE = ord("_")  # `in` finds a number seven times faster than a string


class StopParsing(Exception):  # noqa: N818 - not an error: it only stops the parser
    """No further request of this connection is read."""


class NullParser:
    """Takes the place of the parser, and drops what arrives."""

    def feed_data(self, data: bytes) -> None:
        """Drop *data*."""


NULL_PARSER = NullParser()


class Reading(asyncio.Protocol, ABC):
    """A connection, up to the requests that it reads; `on_*` are httptools' callbacks.

    It leaves six methods to the classes above: `serve`, `refuse` and `waiting` to
    `Answering`, `admit` and `keeps` to `Connection`, `upgrade` to `HTTPProtocol`.
    """

    transport: asyncio.Transport
    url: bytes
    headers: list[Header]
    incoming: Cycle | None  # the request whose body is being read

    __slots__ = (
        "_counts",
        "_host",
        "_parser",
        "_paused",
        "_progress",
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
        self.phase: Phase = FRESH
        self.url = b""
        self.headers = []
        self.incoming = None
        self._paused = False
        self._silent = self._progress = 0
        self._counts = 0  # a head's Host fields, CODED for each Transfer-Encoding
        self._host = b""  # the last good one

    # -- left to the classes above

    @abstractmethod
    def admit(self, method: str, version: str, *, keep_alive: bool) -> Cycle:
        """Make a request of a good head; *keep_alive* is what the client says."""

    @abstractmethod
    def serve(self, cycle: Cycle) -> None:
        """Answer the request in its turn."""

    @abstractmethod
    def refuse(self, refusal: Refusal) -> None:
        """Answer a faulty request in its turn, and stop reading."""

    @abstractmethod
    def upgrade(self, rest: bytes) -> bytes | None:
        """Accept another protocol, or return the request, changed, with *rest* behind.

        *rest* came behind the head.
        """

    @abstractmethod
    def keeps(self, name: bytes) -> bool:
        """Return whether a field with an underscore in its name reaches the app."""

    @abstractmethod
    def waiting(self, *, begun: bool) -> None:
        """Set deadlines of a request of which a part has arrived, or has *begun* to."""

    # -- what the other half does with it

    def open_parser(self) -> None:
        """Make a new parser, at the start of a request."""
        self._parser: Any = httptools.HttpRequestParser(self)
        limits = self.limits
        if limits.permit_obsolete_folding or limits.permit_unconventional_http_version:
            self._parser.set_dangerous_leniencies(
                lenient_headers=limits.permit_obsolete_folding,
                lenient_version=limits.permit_unconventional_http_version,
            )

    def stop_listening(self) -> None:
        """Drop what arrives from now on, and the rest of a request that is half read.

        This also breaks the reference cycle of the parser and its callbacks.
        """
        self.phase = DEAF
        self._parser = NULL_PARSER

    def divert(self, sink: Any) -> None:
        """Give what arrives from now on to *sink*, by its `feed_data`."""
        self.phase = DEAF
        self._parser = sink

    def at_method(self) -> bool:
        """Return whether the next byte belongs to a method."""
        return self.phase in (FRESH, IDLE) or (self.phase is HEAD and not self.url)

    def pause_reading(self) -> None:
        """Stop reading from the client, if that is not done yet."""
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read from the client again."""
        if self._paused:
            self._paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def start_over(self) -> None:
        """Get ready to parse the request a second time."""
        self.phase = IDLE
        self.open_parser()

    # -- asyncio

    def data_received(self, data: bytes) -> None:
        """Parse; all else happens in the callbacks below."""
        unread: bytes | None = data
        while unread is not None:
            data = unread
            try:
                self._parser.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
                fault = error
            else:
                if self.phase is not IDLE:
                    self._pending(len(data))
                return
            # Not inside `except`: there it becomes the context of what is raised, and
            # the context is how a callback's own error is recognised.
            try:
                unread = self._end_parsing(fault, data)
            finally:
                del fault  # its traceback holds this frame, which holds the data

    def _end_parsing(self, fault: Exception, data: bytes) -> bytes | None:
        """Act on what ended the parsing of *data*; return what is to be parsed."""
        if isinstance(fault, httptools.HttpParserUpgrade):
            return self._upgrade(data[fault.args[0] :])
        self._stop(fault)
        return None

    def _stop(self, error: Exception) -> None:
        """Stop reading, for a fault or because the last request is read."""
        cause = error.__context__ if error.__context__ is not None else error
        if self.phase is DONE:
            self.stop_listening()
        if self.phase is DEAF or isinstance(cause, StopParsing):
            return
        self._blame(cause)

    def _upgrade(self, rest: bytes) -> bytes | None:
        try:
            return self.upgrade(rest)
        except (Refusal, httptools.HttpParserError, UnicodeError) as error:
            self._blame(error)
            return None

    def _blame(self, cause: BaseException) -> None:
        """Refuse a request for *cause*."""
        if isinstance(cause, Refusal):
            self.refuse(cause)
        elif isinstance(cause, (httptools.HttpParserError, UnicodeError)):
            self.refuse(malformed(str(cause)))
        else:
            logger.error("Exception in the HTTP protocol\n", exc_info=cause)
            self.refuse(Refusal(500))

    def _pending(self, size: int) -> None:
        """Count bytes that the parser holds back or drops without a callback.

        llhttp hands out a field when the next one begins, and chunk extensions never.
        If *size* bytes led to no callback, they are all of that kind.
        """
        if self.phase is HEAD:
            progress = len(self.headers)
        elif self.phase is BODY and self.incoming is not None:
            progress = len(self.headers) + self.incoming.received
        else:
            return
        begun = self._progress < 0
        self._silent = self._silent + size if progress == self._progress else 0
        self._progress = progress
        # No callback comes between a request line and the first field.
        if self._silent > self.limits.request_line + self.limits.field_size:
            self.refuse(self._overflow())
        else:
            self.waiting(begun=begun)

    def _overflow(self) -> Refusal:
        if self.phase is BODY:
            return malformed("endless chunk framing")
        if len(self.url) > self.limits.request_line:
            return Refusal(414, LINE_TOO_LONG)
        return Refusal(431, FIELD_TOO_LONG)

    # -- httptools

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self.phase is not IDLE and self.phase is not FRESH:
            raise StopParsing
        self.phase = HEAD
        self.url = b""
        self._counts = 0
        self._progress = -1
        if self.headers:  # the trailers of the request before
            self.headers = []

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request target."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one field of the head or of the trailers; both have the same limits."""
        limits, headers = self.limits, self.headers
        # The line as gunicorn counts it, with its colon, a space and its end.
        size = len(name)
        if size + len(value) + 4 > limits.field_size:
            raise Refusal(431, FIELD_TOO_LONG)
        if len(headers) >= limits.fields:
            raise Refusal(431, TOO_MANY_FIELDS)
        name = name.lower()
        if UNDERSCORE in name and not self.keeps(name):
            return
        value = value.rstrip(b" \t")
        # Sizes first: numbers are compared ten times faster than bytes.
        if size == HOST_SIZE and name == HOST:
            self._counts += 1
            if value != self._host:
                check_host(value)
                self._host = value
        elif size == CODING_SIZE and name == TRANSFER_ENCODING:
            self._counts += CODED
        elif size == TE_SIZE and name == TE and takes_trailers(value):
            self._counts |= TRAILED
        headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Hand over a good head."""
        parser = self._parser
        method = parser.get_method().decode("ascii")
        limits = self.limits
        # The line as gunicorn counts it: two spaces and "HTTP/1.1" besides.
        if len(method) + len(self.url) + 10 > limits.request_line:
            raise Refusal(414, LINE_TOO_LONG)
        version = parser.get_http_version()
        if self._counts != 1:  # exactly one Host, and no coding
            self._check_counts(version)
        if parser.should_upgrade():
            return  # upgrade() decides; until then the phase is HEAD
        if version != "1.1":
            self._check_version(version)
        if limits.max_body_size is not UNLIMITED:
            self._check_length()
        keep_alive = parser.should_keep_alive()
        self.incoming = cycle = self.admit(method, version, keep_alive=keep_alive)
        # The list belongs to the scope from here on. Trailers may still come, and do
        # not go into the scope.
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
        if cycle.changed is not None:
            cycle.changed.set()

    def takes_trailers(self) -> bool:
        """Tell whether the client of the head that was read last asks for trailers."""
        return self._counts >= TRAILED

    # -- checks that few requests need

    def _check_counts(self, version: str) -> None:
        coded, hosts = divmod(self._counts % TRAILED, CODED)
        if hosts != 1:
            check_hosts(hosts, version)
        if coded:
            codings.check(self.headers, version)

    def _check_version(self, version: str) -> None:
        if version != "1.0" and not self.limits.permit_unconventional_http_version:
            raise malformed(f"HTTP version {version}")

    def _check_length(self) -> None:
        for name, value in self.headers:
            if name == b"content-length" and int(value) > self.limits.max_body_size:
                raise Refusal(413, BODY_TOO_LONG)

    def describe(self) -> dict[str, Any]:
        """Return a scope of what is known of a request whose head did not end."""
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
