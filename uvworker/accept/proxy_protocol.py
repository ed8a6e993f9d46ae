"""The PROXY protocol: a header with the client's address, before its first byte.

Here are a parser, which never sees a socket, and a reader, which takes the header off
an accepted socket before a transport owns it. Rule: not one byte after the header is
read, so that TLS and HTTP start at their first byte. Source: "The PROXY protocol",
versions 1 and 2, by the HAProxy project.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .peers import LAST_PORT, Peer, TrustedPeers

Mode: TypeAlias = Literal["off", "v1", "v2", "auto"]

V1_SIGNATURE = b"PROXY "
V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V1_LENGTH = 107  # bytes with CRLF: the specification's worst case
V2_FIXED = 16  # bytes: signature, version and command, family, length
# Addresses take at most 216 bytes and usual TLVs a few hundred; a client's
# certificate in one may take more. nginx has the same limit.
V2_LENGTH = 4096  # bytes, all included

HEADER_TIMEOUT = 5.0  # seconds; the specification says at least 3 s, for resends

# A header that arrives in pieces stays in the socket, which therefore stays readable:
# waiting for readability would spin. Pauses double from the first to the last.
FIRST_PAUSE = 0.001  # seconds
LAST_PAUSE = 0.1  # seconds


class ProxyProtocolError(Exception):
    """The peer may not send a PROXY header, or sends a wrong one: close."""


@dataclass(frozen=True, slots=True)
class Header:
    """A parsed PROXY header.

    `consumed` is its length in bytes, 0 if the connection starts without one.
    Addresses are None if the connection's own addresses apply.
    """

    consumed: int
    source: Peer | None = None
    destination: Peer | None = None


ABSENT = Header(0)


def parse(data: bytes | bytearray | memoryview, mode: Mode = "auto") -> Header | None:
    """Parse the PROXY header at the start of a connection.

    Gunicorn's `proxy_protocol` also allows connections without a header, so other
    data is not an error, but `ABSENT`.

    Args:
        data: all bytes so far, from the first.
        mode: `v1`, `v2`, or `auto` for both.

    Returns:
        The header, or None while more bytes are needed; `len(data)` is then less
        than `V2_LENGTH`.

    Raises:
        ProxyProtocolError: malformed, oversized, or of a version that is not allowed.

    """
    head = bytes(data[:V2_LENGTH])
    for version, (signature, read) in VERSIONS.items():
        if head.startswith(signature):
            if mode not in (version, "auto"):
                raise ProxyProtocolError(
                    f"the peer sent a PROXY {version} header, but proxy_protocol is "
                    f"{mode!r}"
                )
            return read(head)
        if signature.startswith(head):
            return None
    return ABSENT


# -- version 1: one line of text

_PORT = rb"(0|[1-9][0-9]{0,4})"
_V1_LINE = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|(TCP[46]) ([^\s]+) ([^\s]+) %b %b)"
    % (_PORT, _PORT)
)
_V1_FAMILIES = {b"TCP4": socket.AF_INET, b"TCP6": socket.AF_INET6}


def _read_v1(head: bytes) -> Header | None:
    end = head.find(b"\r\n", 0, V1_LENGTH)
    if end < 0:
        if len(head) < V1_LENGTH:
            return None
        raise ProxyProtocolError(f"PROXY v1 line without CRLF in {V1_LENGTH} bytes")
    match = _V1_LINE.fullmatch(head, 0, end)
    if match is None:
        raise ProxyProtocolError(f"malformed PROXY v1 line {head[:end]!r}")
    consumed = end + len(b"\r\n")
    protocol, *fields = match.groups()
    if protocol is None:
        return Header(consumed)
    try:
        source, destination = _v1_peers(_V1_FAMILIES[protocol], *fields)
    except (OSError, ValueError) as error:
        raise ProxyProtocolError(f"bad address in {head[:end]!r}") from error
    return Header(consumed, source, destination)


def _v1_peers(
    family: int, source: bytes, destination: bytes, *ports: bytes
) -> tuple[Peer, Peer]:
    hosts = [
        socket.inet_ntop(family, socket.inet_pton(family, text.decode("ascii")))
        for text in (source, destination)
    ]
    source_port, destination_port = map(int, ports)
    if max(source_port, destination_port) > LAST_PORT:
        raise ValueError(ports)
    return (hosts[0], source_port), (hosts[1], destination_port)


# -- version 2: binary, addresses and then type-length-value fields, which we skip

_V2_PREFIX = struct.Struct("!12xBBH")
_V2_VERSION = 2
_LOCAL, _PROXY = 0x0, 0x1
_TRANSPORTS = (0x0, 0x1, 0x2)  # unspecified, stream, datagram
# The address block by family. A datagram (a client on HTTP/3) has the same one.
_V2_BLOCKS = {
    0x0: (None, struct.Struct("")),
    0x1: (socket.AF_INET, struct.Struct("!4s4sHH")),
    0x2: (socket.AF_INET6, struct.Struct("!16s16sHH")),
    0x3: (None, struct.Struct("108s108s")),  # unix paths, which name no client
}


def _read_v2(head: bytes) -> Header | None:
    if len(head) < V2_FIXED:
        return None
    version_command, family_transport, length = _V2_PREFIX.unpack_from(head)
    version, command = divmod(version_command, 16)
    family, transport = divmod(family_transport, 16)
    if version != _V2_VERSION or command not in (_LOCAL, _PROXY):
        raise ProxyProtocolError(f"PROXY v2 header of version {version}.{command}")
    consumed = V2_FIXED + length
    if consumed > V2_LENGTH:
        raise ProxyProtocolError(
            f"PROXY v2 header of {consumed} bytes; {V2_LENGTH} are allowed"
        )
    if len(head) < consumed:
        return None
    if command == _LOCAL:  # the proxy's own health check: the block has no meaning
        return Header(consumed)
    if family not in _V2_BLOCKS or transport not in _TRANSPORTS:
        raise ProxyProtocolError(
            f"PROXY v2 header of unknown address family 0x{family_transport:02x}"
        )
    return _v2_addresses(head[V2_FIXED:consumed], family, known=transport != 0)


def _v2_addresses(block: bytes, family: int, *, known: bool) -> Header:
    address_family, layout = _V2_BLOCKS[family]
    consumed = V2_FIXED + len(block)
    if not known:
        return Header(consumed)
    if len(block) < layout.size:
        raise ProxyProtocolError(
            f"PROXY v2 addresses cut off: {len(block)} of {layout.size} bytes"
        )
    if address_family is None:
        return Header(consumed)
    source, destination, source_port, destination_port = layout.unpack_from(block)
    return Header(
        consumed,
        (socket.inet_ntop(address_family, source), source_port),
        (socket.inet_ntop(address_family, destination), destination_port),
    )


VERSIONS = {"v1": (V1_SIGNATURE, _read_v1), "v2": (V2_SIGNATURE, _read_v2)}


# -- on a socket


@dataclass(frozen=True, slots=True)
class ProxyProtocol:
    """Gunicorn's `proxy_protocol` and `proxy_allow_ips`, for accepted sockets."""

    mode: Mode
    peers: TrustedPeers
    timeout: float = HEADER_TIMEOUT  # seconds from accept to the header's end

    async def receive(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, peer: Peer | None
    ) -> Header:
        """Take the PROXY header off an accepted socket, if there is one.

        Of a peer that is not trusted, only the first bytes are looked at: a header is
        refused, anything else is left to HTTP.

        Args:
            loop: the running loop.
            sock: non-blocking, and in no transport yet.
            peer: the socket's own peer; None for a unix socket, always trusted.

        Raises:
            ProxyProtocolError: refused, malformed, or not finished in time.
            OSError: the connection broke, or (`TimeoutError`) nothing came at all.

        """
        deadline = loop.time() + self.timeout
        if self.peers.trusts(peer):
            return await read_header(loop, sock, self.mode, deadline)
        head = await _peek(loop, sock, deadline)
        if head.startswith((V1_SIGNATURE, V2_SIGNATURE)):
            raise ProxyProtocolError(
                f"{peer[0]} sent a PROXY header and is not in proxy_allow_ips; "  # type: ignore[index]  # unix is trusted
                "if it is your proxy, add it"
            )
        return ABSENT


async def read_header(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, mode: Mode, deadline: float
) -> Header:
    """Read a PROXY header, and not one byte more, from a non-blocking socket.

    The kernel's buffer is peeked into until the header is whole, then exactly the
    header is taken out.

    Args:
        loop: the running loop.
        sock: non-blocking, and in no transport yet.
        mode: as for `parse`.
        deadline: in `loop.time()`.

    Raises:
        ProxyProtocolError: malformed, or not finished in time.
        OSError: the connection broke, or (`TimeoutError`) nothing came at all.

    """
    pause = FIRST_PAUSE
    while True:
        head = await _peek(loop, sock, deadline)
        header = parse(head, mode) if head else ABSENT  # closed: HTTP will notice
        if header is not None:
            break
        if loop.time() >= deadline:
            raise ProxyProtocolError(f"unfinished PROXY header {head[:V1_LENGTH]!r}")
        await asyncio.sleep(pause)
        pause = min(2 * pause, LAST_PAUSE)
    left = header.consumed
    while left:
        left -= len(sock.recv(left))
    return header


async def _peek(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, deadline: float
) -> bytes:
    """Wait for the first bytes and return them, without taking them off the socket."""
    while True:
        with contextlib.suppress(BlockingIOError):
            return sock.recv(V2_LENGTH, socket.MSG_PEEK)
        await _readable(loop, sock, deadline)


async def _readable(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, deadline: float
) -> None:
    came = loop.create_future()

    def settle(*, readable: bool) -> None:
        if not came.done():
            came.set_result(readable)

    timer = loop.call_at(deadline, lambda: settle(readable=False))
    loop.add_reader(sock, lambda: settle(readable=True))
    try:
        if not await came:
            raise TimeoutError("the connection sent nothing")
    finally:
        loop.remove_reader(sock)
        timer.cancel()
