"""The socket on which systemd hears how a service is (sd_notify(3)).

gunicorn says ``READY=1`` on it before it has forked a worker, so that a release which
cannot be imported counts as started. The rule: the variable that names the socket is
withheld until gunicorn has said that, and no child of the arbiter ever has it: what an
app starts could speak for the whole service.
"""

from __future__ import annotations

import os
import socket

SOCKET = "NOTIFY_SOCKET"
WATCHDOG = "WATCHDOG_USEC"
WATCHDOG_PID = "WATCHDOG_PID"
SUCCEEDS = "GUNICORN_PID"  # set by an arbiter, for the one that USR2 starts

_withheld: list[str] = []  # the value, while gunicorn starts


def withhold() -> None:
    """Take the variable from gunicorn; in the arbiter, before it starts."""
    if address := os.environ.pop(SOCKET, None):
        _withheld.append(address)


def give_back() -> NotifySocket | None:
    """Restore the variable, which USR2 hands on; return the socket if there is one."""
    if not _withheld:
        return None
    os.environ[SOCKET] = address = _withheld.pop()
    return NotifySocket(address)


def forget() -> None:
    """Remove the variables from a process that the arbiter has forked."""
    for name in SOCKET, WATCHDOG, WATCHDOG_PID:
        os.environ.pop(name, None)


def watchdog_period() -> float | None:
    """Return the seconds in which systemd wants a sign, or None if it wants none.

    After USR2 the pid is that of the first arbiter, which systemd has started.
    """
    meant = os.environ.get(WATCHDOG_PID, str(os.getpid())) == str(os.getpid())
    period = os.environ.get(WATCHDOG, "")
    if not period.isdigit() or not (meant or SUCCEEDS in os.environ):
        return None
    return int(period) / 1_000_000


class NotifySocket:
    """The socket at *address*: a path, or an abstract name after ``@``."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._to = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)  # the arbiter must not wait for systemd

    def send(self, message: str) -> None:
        """Send one message; raises ``OSError`` if it is not delivered."""
        self._socket.sendto(message.encode(), self._to)

    def close(self) -> None:
        """Close it."""
        self._socket.close()
