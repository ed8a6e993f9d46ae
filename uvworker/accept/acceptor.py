"""Accepts connections: evenly among the workers, up to a limit, without spinning.

The workers share the listening sockets, so another worker can accept a connection that
one leaves in the backlog. The rule: a worker leaves a connection no longer than a
sibling that is alive needs to accept it.

Evenly. The kernel wakes every worker for a connection, and the first to call ``accept``
gets it; in a burst, one worker gets most. (EPOLLEXCLUSIVE, which an event loop's
``add_reader`` cannot set, would wake fewer workers, but prefer one of them.) So a
worker that has more than its share stops reading for a millisecond and looks again. If
no sibling accepts a connection within `LOOKS` looks, the worker accepts it, and reports
`Balance.waited_in_vain`, so that a stopped sibling no longer counts.

Limit. A full worker stops reading until `Acceptor.connection_closed` is called and it
is no longer full; meanwhile it costs nothing.

Without spinning. If ``accept`` fails because there is no free file descriptor, the
listener stays readable and the loop would spin. So the worker pauses, logs what to do,
and tries again.

The scoreboard and the protocol are passed in, as functions and a `Balance`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import socket
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol

logger = logging.getLogger("uvicorn.error")

LOOK = 0.001  # seconds that a connection is left to a sibling; a loop's finest timer
LOOKS = 4  # looks at a connection that no sibling accepts, until this worker does

# Connections accepted in one turn of the loop, which costs 3 µs; more gain nothing.
BATCH = 4

STARVED = 0.2  # seconds until the next try if accept lacks a resource
SILENCE = 60.0  # seconds between two log lines about the same problem

# Seconds that a stop waits for TLS handshakes, as for idle connections.
LAST_HANDSHAKES = 2.0

# TCP keep-alive: without it, the connection of a client that vanished, as phones do,
# would stay open for ever. Seconds of silence until the first probe, seconds between
# probes, and the number of probes without an answer after which the kernel closes it.
PROBES = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}

# accept(2): errors of the one connection to accept, which is then gone.
ITS_OWN = {
    errno.ECONNABORTED,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EPROTO,
    getattr(errno, "ENONET", errno.EPROTO),  # Linux only
}

ADVICE = {
    errno.EMFILE: "raise the limit of open files (ulimit -n, LimitNOFILE=), or set "
    "worker_connections below it",
    errno.ENFILE: "the whole system is out of open files: raise fs.file-max",
    errno.ENOBUFS: "the kernel is out of memory for sockets",
    errno.ENOMEM: "the kernel is out of memory for sockets",
}


class Balance(Protocol):
    """What a worker knows of its siblings' load."""

    def surplus(self, connections: int, /) -> int:
        """Return how many of its open connections exceed its share; 0 or less: none."""

    def waited_in_vain(self) -> None:
        """Note that no sibling accepted a connection that was left to them."""


class Acceptor:
    """Accept connections from *listeners* and open each.

    Constructed on the loop; accepts from `resume` until `close`.

    *open_*: makes a connection of an accepted, non-blocking socket; raises nothing.
    *listeners*: listening sockets, non-blocking, of any stream family. The caller owns
    them: ``listen`` is not called again, so the backlog stays as it is, and they are
    not closed. TCP keep-alive is enabled on them.
    *connections*: returns how many connections the protocols have open.
    *balance*: called before each accept; without one, every connection is accepted.
    *ceiling*: the most connections that this worker has open (``worker_connections``);
    None: as many as there are file descriptors.
    """

    def __init__(
        self,
        open_: Callable[[socket.socket], Coroutine[Any, Any, None]],
        listeners: Sequence[socket.socket],
        *,
        connections: Callable[[], int],
        balance: Balance | None = None,
        ceiling: int | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._open = open_
        self._watched = [_Watched(self, listener) for listener in listeners]
        self._connections = connections
        self._balance = balance
        self._ceiling = math.inf if ceiling is None else ceiling
        self._opening: set[asyncio.Task[None]] = set()
        self._reading = False
        self._full = False
        self._said: dict[str, float] = {}
        # Counted for metrics: connections, and pauses by their reason.
        self.accepted = self.times_full = self.times_starved = 0

    # Called by the server

    def resume(self) -> None:
        """Accept, unless the worker is full."""
        self._reading = True
        self._full = False
        for watched in self._watched:
            watched.open()

    def pause(self) -> None:
        """Stop accepting; connections stay in the backlog, for a sibling or later."""
        self._reading = False
        self._shut()

    def connection_closed(self) -> None:
        """Accept again if the worker was full; call it after each close."""
        if self._full and self._reading and self.open < self._ceiling:
            self.resume()

    def drain_backlog(self) -> int:
        """Accept the whole backlog, regardless of share and limit; return how many.

        For the last worker: a client in the backlog is connected, may have sent a
        request, and would be reset. Call it right before the listener is closed, since
        connections arrive until then.
        """
        accepted = 0
        for watched in self._watched:
            while self._accept(watched):
                accepted += 1
        return accepted

    def close(self) -> None:
        """Stop accepting for good; a TLS handshake has `LAST_HANDSHAKES` seconds."""
        self.pause()
        self._watched.clear()
        self._loop.call_later(LAST_HANDSHAKES, self._give_up)

    @property
    def open(self) -> int:
        """How many connections are open, including those in their TLS handshake."""
        return self._connections() + len(self._opening)

    # On the loop, when a listener is readable

    def readable(self, watched: _Watched) -> None:
        """Accept some connections, as long as it is this worker's turn."""
        for _ in range(BATCH):
            if self.open >= self._ceiling:
                self._rest()
                return
            if not (self._is_my_turn(watched) and self._accept(watched)):
                return

    def _is_my_turn(self, watched: _Watched) -> bool:
        if self._balance is None or self._balance.surplus(self.open) <= 0:
            return True
        if not watched.looked_enough():
            watched.close(LOOK)
            return False
        self._balance.waited_in_vain()
        return True

    def _accept(self, watched: _Watched) -> bool:
        """Accept one connection; return False if there is none."""
        try:
            connection = watched.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno in ITS_OWN:
                return True
            self._starve(error)
            return False
        self.accepted += 1
        connection.setblocking(False)  # on Linux, not inherited from the listener
        task = self._loop.create_task(self._open(connection))
        self._opening.add(task)
        task.add_done_callback(self._opened)
        return True

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        self.connection_closed()  # during its handshake; if open, a protocol counts it

    def _give_up(self) -> None:
        for task in self._opening:
            task.cancel()

    def _rest(self) -> None:
        self._full = True
        self.times_full += 1
        self._shut()
        self._say(
            "ceiling",
            f"This worker has {self._ceiling} connections, as many as "
            "worker_connections allows; new ones wait until a sibling accepts them or "
            "one closes.",
        )

    def _starve(self, error: OSError) -> None:
        self.times_starved += 1
        for watched in self._watched:
            watched.close(STARVED)
        advice = ADVICE.get(error.errno or 0, "trying again")
        self._say(f"errno {error.errno}", f"Cannot accept: {error.strerror}; {advice}.")

    def _shut(self) -> None:
        for watched in self._watched:
            watched.close()

    def _say(self, trouble: str, line: str) -> None:
        now = self._loop.time()
        if now - self._said.get(trouble, -math.inf) >= SILENCE:
            self._said[trouble] = now
            logger.warning(line)


class Connections(set[Any]):
    """A worker's open connections; reports each change.

    A drop-in for uvicorn's ``server_state.connections``: HTTP and WebSocket protocols
    add themselves to it and discard themselves.

    *changed*: called with the number of connections after each change.
    """

    def __init__(self, changed: Callable[[int], object]) -> None:
        super().__init__()
        self._changed = changed

    def add(self, connection: Any, /) -> None:
        """Add a connection."""
        super().add(connection)
        self._changed(len(self))

    def discard(self, connection: Any, /) -> None:
        """Remove a connection, if it is there."""
        super().discard(connection)
        self._changed(len(self))


class _Watched:
    """One listener; while it is open, the loop watches it."""

    def __init__(self, acceptor: Acceptor, listener: socket.socket) -> None:
        self.listener = listener
        _probe_silent_peers(listener)
        self._connection = _sockets_of(listener)
        self._fd = listener.fileno()  # kept, since the listener may be closed first
        self._acceptor = acceptor
        self._loop = asyncio.get_running_loop()
        self._reopening: asyncio.TimerHandle | None = None
        self._reopened_at = 0.0
        self._looks = 0  # at a connection that no sibling accepts

    def open(self) -> None:
        self._cancel()
        self._reopened_at = self._loop.time()
        self._loop.add_reader(self._fd, self._acceptor.readable, self)

    def close(self, seconds: float | None = None) -> None:
        """Stop watching, for *seconds* or until `open` is called."""
        self._cancel()
        self._loop.remove_reader(self._fd)
        if seconds is not None:
            self._reopening = self._loop.call_later(seconds, self.open)

    def accept(self) -> socket.socket:
        """Return a new connection; raises what ``socket.accept`` does."""
        # `socket.accept` calls it; typeshed does not have it.
        descriptor, _peer = self.listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001
        return self._connection(descriptor)

    def looked_enough(self) -> bool:
        """Count a look, and return whether they are enough.

        The count starts again if the listener was silent since it was reopened.
        """
        silent = self._loop.time() - self._reopened_at > LOOK
        self._looks = 1 if silent or self._looks > LOOKS else self._looks + 1
        return self._looks > LOOKS

    def _cancel(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None


def _sockets_of(listener: socket.socket) -> Callable[[int], socket.socket]:
    """Return a function that makes a socket of a descriptor that *listener* accepted.

    ``socket.socket`` makes an Enum of its family and type at each access, and loops
    read them five times: of the 30 µs that opening a connection costs, this saves 4.
    """
    family, kind = listener.family, listener.type
    known = {"__slots__": (), "family": family, "type": kind}
    return partial(
        type("socket", (socket.socket,), known), family, kind, listener.proto
    )


def _probe_silent_peers(listener: socket.socket) -> None:
    """Enable TCP keep-alive; accepted connections inherit it.

    Unless it is enabled already, as it can be on systemd's sockets.
    """
    unix = listener.family == socket.AF_UNIX
    if unix or listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        return
    for name, value in PROBES.items():
        if hasattr(socket, name):  # not everywhere
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
