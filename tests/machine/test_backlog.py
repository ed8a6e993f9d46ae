"""The kernel's figures of listening sockets."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from uvworker.machine.backlog import waiting


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_what_waits_and_may_wait_is_the_kernels(
    tmp_path: Path, family: socket.AddressFamily
) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family))
        unix = family == socket.AF_UNIX
        listener.bind(str(tmp_path / "sock") if unix else ("127.0.0.1", 0))
        listener.listen(77)
        assert waiting(listener) == (0, 77)
        for _ in range(5):
            client = stack.enter_context(socket.socket(family))
            client.connect(listener.getsockname())
        assert waiting(listener) == (5, 77)


def test_nothing_is_known_of_another_kind_of_socket() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert waiting(sock) is None
