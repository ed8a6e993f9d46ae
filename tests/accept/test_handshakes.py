"""From an accepted socket to a protocol: what goes wrong ends that one, quietly."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct

from uvworker.accept.handshakes import Handshakes
from uvworker.accept.peers import TrustedPeers
from uvworker.accept.proxy_protocol import ProxyProtocol

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


def test_a_probe_that_has_left_already_is_no_warning(caplog):
    """Its socket has no peer any more, whose address decides who may announce."""
    caplog.set_level(logging.DEBUG, "uvicorn.error")

    async def opened(connection: socket.socket) -> None:
        anyone = ProxyProtocol("auto", TrustedPeers.parse("*"))
        await Handshakes(asyncio.Protocol, proxy_protocol=anyone)(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        probe = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        accepted.setblocking(False)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        probe.close()
        asyncio.run(opened(accepted))
    assert accepted.fileno() == -1
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
