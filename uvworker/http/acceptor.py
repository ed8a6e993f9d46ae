"""Who accepts the next connection: evenly among the workers, up to a ceiling, at ease.

The listening sockets are shared, so what one worker leaves in the backlog another
takes. That is the whole method, and its rule: nobody waits for a sibling longer than a
sibling that is alive needs.

Even. The kernel wakes every worker for a connection and the first to call ``accept``
has it; of a burst, the first takes most. (EPOLLEXCLUSIVE, out of reach through an event
loop's ``add_reader``, would wake fewer, and prefer the same one again and again.) So a
worker that has more than its share stops reading for a millisecond and looks again.
After `LOOKS` looks at what nobody took, it takes one connection, and says that it
waited in vain, so that a sibling that is stopped can be left out of the count.

Ceiling. A full worker stops reading until `Acceptor.connection_closed` says that it is
not; meanwhile it costs nothing.

At ease. A listener stays readable when ``accept`` fails for want of a file descriptor,
and the loop would spin: so the worker pauses, says what to do, and tries again.

It knows neither the scoreboard nor the protocol: what it needs of them is passed in.
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
LOOKS = 4  # looks at a connection that is not taken until its taker is given up

# Connections taken at once: a turn of the loop costs 3 µs, and more gain nothing.
BATCH = 4

STARVED = 0.2  # seconds until the next try when accept fails for want of a resource
SILENCE = 60.0  # seconds between two log lines about the same trouble

# accept(2): errors of the one connection that was to be accepted, which is gone.
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
        """How many of its open connections it has beyond its share; up to 0: none."""

    def waited_in_vain(self) -> None:
        """Hear that a connection left to siblings was not taken by any."""


class Acceptor:
    """Accept connections from *listeners* and open each.

    Constructed on the loop; accepts from `resume` until `close`.

    *open_*: makes a connection of an accepted, non-blocking socket; raises nothing.
    *listeners*: listening sockets, non-blocking, of any stream family. They stay the
    caller's: they are neither put to ``listen`` again, so the backlog is what it was,
    nor closed.
    *connections*: returns how many connections the protocols have open.
    *balance*: asked before each connection; without one, every connection is taken.
    *ceiling*: connections that this worker has open at most (``worker_connections``);
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
        self._doors = [_Door(self, listener) for listener in listeners]
        self._connections = connections
        self._balance = balance
        self._ceiling = math.inf if ceiling is None else ceiling
        self._opening: set[asyncio.Task[None]] = set()
        self._reading = False
        self._full = False
        self._said: dict[str, float] = {}

    # How it is told

    def resume(self) -> None:
        """Accept, unless the worker is full."""
        self._reading = True
        self._full = False
        for door in self._doors:
            door.open()

    def pause(self) -> None:
        """Stop accepting; what comes stays in the backlog, for a sibling or later."""
        self._reading = False
        self._shut()

    def connection_closed(self) -> None:
        """Accept again if the worker was full; call it after each close."""
        if self._full and self._reading and self.open < self._ceiling:
            self.resume()

    def drain_backlog(self) -> int:
        """Accept all that waits, shares and ceiling regardless; return how many.

        For the end, when no sibling will: who is in the backlog believes to be
        connected, may have sent a request, and would be reset. Right before the
        listener is closed, as connections may come until then.
        """
        accepted = 0
        for door in self._doors:
            while self._accept(door):
                accepted += 1
        return accepted

    def close(self) -> None:
        """Stop accepting for good; what is in its TLS handshake goes on."""
        self.pause()
        self._doors.clear()

    @property
    def open(self) -> int:
        """Connections that are open, those in their TLS handshake included."""
        return self._connections() + len(self._opening)

    # On the loop, when a listener is readable

    def readable(self, door: _Door) -> None:
        """Take some connections, or leave them; each only if it is this one's turn."""
        for _ in range(BATCH):
            if self.open >= self._ceiling:
                self._rest()
                return
            if not (self._is_my_turn(door) and self._accept(door)):
                return

    def _is_my_turn(self, door: _Door) -> bool:
        if self._balance is None or self._balance.surplus(self.open) <= 0:
            return True
        if not door.looked_enough():
            door.close(LOOK)
            return False
        self._balance.waited_in_vain()
        return True

    def _accept(self, door: _Door) -> bool:
        """Accept one connection; False if there is none to have."""
        try:
            connection = door.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno in ITS_OWN:
                return True
            self._starve(error)
            return False
        connection.setblocking(False)  # on Linux, accept does not hand it on
        task = self._loop.create_task(self._open(connection))
        self._opening.add(task)
        task.add_done_callback(self._opened)
        return True

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        self.connection_closed()  # in its handshake; if not, it is counted elsewhere

    def _rest(self) -> None:
        self._full = True
        self._shut()
        self._say(
            "ceiling",
            f"This worker has {self._ceiling} connections, as many as "
            "worker_connections allows: new ones wait for a sibling, or for a close.",
        )

    def _starve(self, error: OSError) -> None:
        for door in self._doors:
            door.close(STARVED)
        advice = ADVICE.get(error.errno or 0, "trying again")
        self._say(f"errno {error.errno}", f"Cannot accept: {error.strerror}; {advice}.")

    def _shut(self) -> None:
        for door in self._doors:
            door.close()

    def _say(self, trouble: str, line: str) -> None:
        now = self._loop.time()
        if now - self._said.get(trouble, -math.inf) >= SILENCE:
            self._said[trouble] = now
            logger.warning(line)


class Connections(set[Any]):
    """A worker's open connections, as uvicorn's protocols keep them; tells of changes.

    A drop-in for ``server_state.connections``, to which HTTP and WebSocket protocols
    add themselves and from which they discard themselves.

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


class _Door:
    """One listener, watched or not."""

    def __init__(self, acceptor: Acceptor, listener: socket.socket) -> None:
        self.listener = listener
        self._connection = _sockets_of(listener)
        self._fd = listener.fileno()  # kept, for a listener that is closed first
        self._acceptor = acceptor
        self._loop = asyncio.get_running_loop()
        self._reopening: asyncio.TimerHandle | None = None
        self._reopened_at = 0.0
        self._looks = 0  # at a connection that siblings did not take

    def open(self) -> None:
        self._cancel()
        self._reopened_at = self._loop.time()
        self._loop.add_reader(self._fd, self._acceptor.readable, self)

    def close(self, seconds: float | None = None) -> None:
        """Stop watching, for some *seconds* or until `open`."""
        self._cancel()
        self._loop.remove_reader(self._fd)
        if seconds is not None:
            self._reopening = self._loop.call_later(seconds, self.open)

    def accept(self) -> socket.socket:
        """Return a new connection; raises what ``socket.accept`` does."""
        # What `accept` itself calls, and typeshed does not know.
        descriptor, _peer = self.listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001
        return self._connection(descriptor)

    def looked_enough(self) -> bool:
        """Count a look. A listener silent since it is watched again begins anew."""
        silent = self._loop.time() - self._reopened_at > LOOK
        self._looks = 1 if silent or self._looks > LOOKS else self._looks + 1
        return self._looks > LOOKS

    def _cancel(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None


def _sockets_of(listener: socket.socket) -> Callable[[int], socket.socket]:
    """Return what makes a socket of a descriptor that *listener* accepted.

    ``socket.socket`` makes an Enum of its family and its type at each look, and loops
    look five times: of the 30 µs that opening a connection costs, this saves 4.
    """
    family, kind = listener.family, listener.type
    known = {"__slots__": (), "family": family, "type": kind}
    return partial(
        type("socket", (socket.socket,), known), family, kind, listener.proto
    )
