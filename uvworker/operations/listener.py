"""The operator's listener, bound in the arbiter.

It is bound before the first fork, so that it outlives every worker. The rule: two
arbiters share the address only if one succeeds the other (USR2); no other process can.
So an arbiter sets ``SO_REUSEPORT`` after it has bound the socket, and only a successor
sets it before.
"""

from __future__ import annotations

import atexit
import os
import socket
from contextlib import suppress
from pathlib import Path

BACKLOG = 64  # connections; probes and scrapers are few
UNIX = "unix:"
OWNER_ONLY = 0o600  # mode of a unix socket


class AddressError(ValueError):
    """The address cannot be listened on: which, and why."""


def bind(address: str, *, succeeds: bool) -> socket.socket:
    """Return a socket that listens on *address*. Runs in the arbiter.

    *address*: ``HOST:PORT`` or ``unix:PATH``.
    *succeeds*: another arbiter may still have the address (after USR2).

    Raises :class:`AddressError` if the address cannot be bound.
    """
    try:
        if address.startswith(UNIX):
            return _bind_path(address.removeprefix(UNIX))
        host, _, port = address.rpartition(":")
        return _bind((host.strip("[]"), int(port)), succeeds)
    except OSError as error:
        raise AddressError(f"ops_bind {address}: {error.strerror or error}") from error


def _bind(where: tuple[str, int], succeeds: bool) -> socket.socket:
    [(family, kind, protocol, _, resolved), *_] = socket.getaddrinfo(
        *where, type=socket.SOCK_STREAM
    )
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if succeeds:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(resolved)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_path(path: str) -> socket.socket:
    """Bind under another name and rename: a successor takes over without a gap."""
    sock = socket.socket(socket.AF_UNIX)
    new = f"{path}.{os.getpid()}"
    try:
        sock.bind(new)
        Path(new).chmod(OWNER_ONLY)
        sock.listen(BACKLOG)
        Path(new).rename(path)
    except BaseException:
        sock.close()
        with suppress(OSError):
            Path(new).unlink()
        raise
    atexit.register(_unlink, path, Path(path).stat().st_ino, os.getpid())
    return sock


def _unlink(path: str, inode: int, pid: int) -> None:
    """Remove the path at the arbiter's exit, unless a successor has taken it."""
    with suppress(OSError):
        if os.getpid() == pid and Path(path).stat().st_ino == inode:
            Path(path).unlink()
