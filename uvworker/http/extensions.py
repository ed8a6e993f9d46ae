"""What an app may send beyond ASGI's core: files by their path, hints, trailers.

Rule: an extension is offered only where the client can take it, and what an app sends
all the same, as its framework was asked for it, is dropped without harm.

Source: the ASGI extensions `http.response.pathsend`, `http.response.early_hint` and
`http.response.trailers`. `http.response.zerocopysend` is not offered: no framework
sends it, and who has a file's descriptor has its path.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from ..app.disconnect import ClientDisconnected
from . import files
from .cycle import BODY, START, TRAILED, Cycle
from .files import File, FileFault, Patience
from .head import BODILESS, CONTROLS, NAMES, Header
from .receiving import Message
from .refusal import Refusal

logger = logging.getLogger("uvicorn.error")

PATHSEND = "http.response.pathsend"
EARLY_HINT = "http.response.early_hint"
TRAILERS = "http.response.trailers"

# By HTTP/1.1; not before it is there more than one head (RFC 9110 section 15.2), and
# trailers are for those who say that they take them.
OFFERED: dict[str, Any] = {PATHSEND: {}, EARLY_HINT: {}}
WITHOUT_FILES: dict[str, Any] = {EARLY_HINT: {}}

# Where a middleware waits for the first `http.response.body` before it sends the start.
HELD_BACK = (
    "http.response.pathsend came before http.response.start: a middleware that does "
    "not know it holds the start back. With gunicorn's sendfile = False "
    "(--no-sendfile), frameworks send the bytes of files."
)

# Bytes up to which a file goes out with its head, in one write.
SMALL = 1 << 16

# Of what a recipient has to know before the body: RFC 9110 section 6.5.1.
NEVER_TRAILING = frozenset(
    (
        *(b"connection", b"content-encoding", b"content-length", b"content-range"),
        *(b"content-type", b"host", b"keep-alive", b"set-cookie", b"te", b"trailer"),
        *(b"transfer-encoding", b"upgrade", b"www-authenticate"),
    )
)


# What is expected, where it is no event that every response has: no event's name.
SENDING = "none while a file is sent"
BODY_ENDED = "http.response.trailers behind the body"


class FileNotSent(ClientDisconnected):
    """Tells the app; the client has its 500 or was cut, and the log has its line."""


class ExtendedCycle(Cycle):
    """A request whose response may use the extensions."""

    # Filled only where there are trailers to send, or a client that takes them.
    trailing: bytes  # their lines
    takes_trailers: bool

    __slots__ = ("takes_trailers", "trailing")

    async def extend(self, message: Message) -> None:
        """Take an event of an extension, or refuse it where it has no place."""
        kind, expected = message["type"], self.expected
        if kind == EARLY_HINT:
            self._hint(message["links"])
        elif kind == PATHSEND and expected == START:
            raise RuntimeError(HELD_BACK)
        elif kind == PATHSEND and expected in (BODY, TRAILED):
            await self._send_file(message["path"])
        elif kind == BODY and expected == TRAILED:
            self._body({**message, "more_body": True})
            if not message.get("more_body", False):
                self._end_body()
        elif kind == TRAILERS and expected == BODY_ENDED:
            self._trail(message)
        else:
            await super().extend(message)

    # -- early hints

    def _hint(self, links: Iterable[bytes]) -> None:
        """Send a head in front of the head: RFC 8297. Once that is out, it is late."""
        block = _lines((b"link", link) for link in links)
        if block and self.chunks_understood and (self.head or self.expected == START):
            head = b"HTTP/1.1 103 Early Hints" + block + b"\r\n\r\n"
            self.connection.transport.write(head)

    # -- trailers

    def _end_body(self) -> None:
        if self.length:
            raise RuntimeError("Response content shorter than Content-Length")
        self.expected, self.trailing = BODY_ENDED, b""

    def _trail(self, message: Message) -> None:
        """Send fields behind the last chunk, if there are chunks: RFC 9112 7.1.2."""
        headers: list[Header] = list(message.get("headers", ()))
        check_trailers(headers)
        self.trailing += _lines(headers)
        if not message.get("more_trailers", False):
            if self.chunked:
                kept = self.trailing if getattr(self, "takes_trailers", False) else b""
                self._put(b"0" + kept + b"\r\n\r\n")
            self.finish()

    # -- files

    async def _send_file(self, path: str) -> None:
        """Send a file as the body, or what is left of it."""
        if self.status in BODILESS:
            self._exceed()
            return
        trailed, unsent = self.expected == TRAILED, bool(self.head)
        self.expected = SENDING
        try:
            file = File(path)
            try:
                await self._transmit(file)
            finally:
                file.close()
        except FileFault as fault:
            raise self._end_without(path, fault, unsent=unsent) from None
        if trailed:
            self.length = 0
            self._end_body()
        elif not self.lost:
            if self.chunked:
                self._put(b"0\r\n\r\n")
            self.finish()

    async def _transmit(self, file: File) -> None:
        if self.length is not None and self.length != file.left:
            raise FileFault(
                f"it has {file.left} bytes, and content-length is {self.length}"
            )
        framed = self.chunked and file.left
        if framed:
            self.head += b"%x\r\n" % file.left
        if file.left <= SMALL:
            self.sent += file.left
            self._put(file.read(file.left))
        else:
            await self._transmit_in_pieces(file)
        if framed and not self.lost:
            self._put(b"\r\n")

    async def _transmit_in_pieces(self, file: File) -> None:
        connection, service = self.connection, self.connection.service
        patience = Patience(service.clock, service.stall_turns, connection, self)
        service.clock.watch(patience)
        tls = connection.transport.get_extra_info("sslcontext") is not None
        try:
            if service.sendfile and not tls:
                self.flush()
                await files.send(file, connection, self)
            while file.left and not self.lost:
                piece = file.read(files.READ)
                self.sent += len(piece)
                self._put(piece)
                await files.turn(connection)
        except OSError:
            connection.transport.abort()
            self.disconnect(lost=True)
        finally:
            service.clock.forget(patience)

    def _put(self, piece: bytes) -> None:
        """Write *piece*, together with a head that is still to be written."""
        self.head += piece
        self.flush()
        if self.connection.transport.is_closing():
            self.disconnect(lost=True)

    def _end_without(self, path: str, fault: FileFault, *, unsent: bool) -> FileNotSent:
        """Answer 500 while nothing was sent, else cut; return what the app gets."""
        sentence = f"The file {path!r} cannot answer {self._name()}: {fault}."
        logger.error("%s", sentence)
        if unsent and self.head:
            self.status, self.head = 0, b""
        self.connection.abandon(self, Refusal(500))
        return FileNotSent(sentence)


def check_trailers(headers: Iterable[Header]) -> None:
    """Raise ``RuntimeError`` for a field that has no place behind a body."""
    for name, _ in headers:
        if name.lower() in NEVER_TRAILING:
            raise RuntimeError(f"The field {name!r} cannot be a trailer.")


def _lines(headers: Iterable[Header]) -> bytes:
    """Write fields that come outside of the head; a bad one raises ``ValueError``."""
    parts: list[bytes] = []
    for name, value in headers:
        parts += (NAMES[name], value)
    block = b"".join(parts)
    if len(block) - len(block.translate(None, CONTROLS)) != len(parts):
        raise ValueError("a value has a control character")
    return block
