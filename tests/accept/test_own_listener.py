"""A listener of a worker's own: no connection before it opens, no loss as it closes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from select import select

import pytest

from tests.tools.service import PATIENCE
from uvworker.accept.own_listener import CannotBind, OwnListener, turn_away

NONE_SEEN = 0.2  # seconds; what would happen on the loopback has happened


@pytest.fixture
def close() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def dial(close: ExitStack, address: tuple[str, int]) -> socket.socket:
    """Begin to connect; writable once that is done."""
    connection = close.enter_context(socket.socket())
    connection.setblocking(False)
    connection.connect_ex(address)
    return connection


def connected(connection: socket.socket, patience: float = PATIENCE) -> bool:
    return bool(select([], [connection], [], patience)[1])


def test_it_takes_no_connection_before_it_opens(port: int, close: ExitStack) -> None:
    address = "127.0.0.1", port
    closed = close.enter_context(OwnListener(address, 64))
    opened = close.enter_context(OwnListener(address, 64))
    opened.open()
    assert all(connected(dial(close, address)) for _ in range(30))
    closed.open()
    with pytest.raises(BlockingIOError):
        closed.accept()


def test_it_keeps_who_is_there_and_sends_away_who_comes(
    port: int, close: ExitStack
) -> None:
    """Who is sent away comes again by itself, to a listener that is still there."""
    address = "127.0.0.1", port
    listener = close.enter_context(OwnListener(address, 64))
    listener.open()
    early = dial(close, address)
    assert connected(early)
    turn_away([listener])
    late = dial(close, address)
    assert not connected(late, NONE_SEEN)
    accepted, peer = listener.accept()
    close.enter_context(accepted)
    assert peer == early.getsockname()
    with pytest.raises(BlockingIOError):
        listener.accept()

    sibling = close.enter_context(OwnListener(address, 64))
    sibling.open()
    listener.close()
    assert connected(late)
    early.sendall(b"early")
    accepted.setblocking(True)
    assert accepted.recv(5) == b"early"


def test_an_address_that_cannot_be_had_is_named(close: ExitStack) -> None:
    with close.enter_context(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CannotBind, match=f"127.0.0.1:{port}: Address already"):
            OwnListener(("127.0.0.1", port), 64)


def test_a_listener_that_is_closed_can_be_told_too(port: int) -> None:
    listener = OwnListener(("127.0.0.1", port), 64)
    listener.close()
    turn_away([listener])
