"""How the commands of ``python -m uvworker`` ask a running service.

They connect to the operator's listener, and to nothing else of the service.
"""

from __future__ import annotations

import argparse
import http.client
import os
import socket
from contextlib import closing

PATIENCE = 10.0  # seconds; a worker answers in milliseconds, for a stuck one in six
UNIX = "unix:"
VARIABLE = "UVWORKER_OPS_BIND"


class Unreachable(Exception):  # noqa: N818  what the service is
    """The service does not answer: at which address, and why."""


def add_address(parser: argparse.ArgumentParser) -> None:
    """Let a command have the address of the service as its last argument."""
    parser.add_argument(
        "address",
        nargs="?",
        default=os.environ.get(VARIABLE),
        help=f"the service's ops_bind; by default {VARIABLE}",
    )


def parse(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """Return the arguments; end with 2 where they are wrong, or name no address."""
    asked = parser.parse_args(arguments)
    if not asked.address:
        parser.error(f"name the service's ops_bind, or set {VARIABLE}")
    return asked


def ask(address: str, path: str) -> tuple[int, bytes]:
    """Return the status and the body that a service answers.

    *address*: its ``ops_bind``.

    Raises :class:`Unreachable` if the service does not answer.
    """
    try:
        with closing(_connection(address)) as connection:
            connection.request("GET", path, headers={"Host": "localhost"})
            response = connection.getresponse()
            return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"No uvworker answers on {address}: {error}") from error


def _connection(address: str) -> http.client.HTTPConnection:
    if address.startswith(UNIX):
        return _UnixConnection(address.removeprefix(UNIX))
    return http.client.HTTPConnection(address, timeout=PATIENCE)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)
