"""Stacks of any worker, asked for by the worker whose thread an operator reaches.

The operations thread of each worker listens on a socket of its own, beside the one that
all share, and sends its worker's stacks to whoever connects. The socket is in Linux's
abstract namespace: it has no file to create or to leave behind, and ends with its
process. It has no mode either, so the peer's user is checked; and its name is random,
because containers of one pod share the namespace.

The rule: a worker that cannot answer costs the asker `PATIENCE`, and is named.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Callable, Collection
from contextlib import suppress

PATIENCE = 3.0  # seconds; a worker answers in milliseconds, on a busy machine later
LARGEST = 1 << 20  # bytes of an answer
CUT = b"\n... cut at 1 MB\n"

CREDENTIALS = struct.Struct("3i")  # unix(7): struct ucred, pid, uid and gid


class Unanswered(Exception):  # noqa: N818  what it is
    """A worker does not answer: why."""


class Relay:
    """One worker's end. Construct it in the worker, before it changes its user.

    *token*: the same for all workers of an arbiter, and for no others.
    *describe*: returns the stacks of this process; called on the operations thread.
    *users*: as whom workers run, by uid.
    """

    def __init__(
        self,
        token: str,
        worker_id: int,
        describe: Callable[[], str],
        users: Collection[int],
    ) -> None:
        self._token = token
        self._id = worker_id
        self._describe = describe
        self._users = users
        self.listener = self._bind()

    def _bind(self) -> socket.socket | None:
        """Return the listener, or None: a worker serves without it too."""
        if sys.platform != "linux":
            return None
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(self._address(self._id))
        except OSError:
            listener.close()
            return None
        return listener

    def _address(self, worker_id: int) -> str:
        return f"\0uvworker-{self._token}-{worker_id}"

    async def serve(self) -> asyncio.AbstractServer | None:
        """Answer siblings from now on; None where there is no such socket."""
        if self.listener is None:
            return None
        return await asyncio.start_unix_server(self._answer, sock=self.listener)

    async def _answer(
        self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._is_sibling(writer):
            writer.write(self._own())
        writer.close()

    def _own(self) -> bytes:
        text = self._describe().encode(errors="replace")
        return text if len(text) <= LARGEST else text[:LARGEST] + CUT

    async def ask(self, worker_id: int) -> bytes:
        """Return the stacks of a worker; raises :class:`Unanswered`."""
        if worker_id == self._id:
            return self._own()
        if self.listener is None:
            raise Unanswered("only the worker that answers has stacks on this system")
        try:
            text = await asyncio.wait_for(self._asked(worker_id), PATIENCE)
        except asyncio.TimeoutError:
            raise Unanswered(
                f"no answer within {PATIENCE:.0f} s: C code holds its interpreter, "
                "or the process is stopped; `py-spy dump` can look from outside"
            ) from None
        except OSError as error:
            raise Unanswered(f"it does not listen: {error.strerror}") from error
        if not text:
            raise Unanswered("it ended meanwhile")
        return text

    async def _asked(self, worker_id: int) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self._address(worker_id))
        try:
            return await reader.read() if self._is_sibling(writer) else b""
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _is_sibling(self, writer: asyncio.StreamWriter) -> bool:
        """Whether the other end is a process of root or of the workers' user."""
        sock = writer.get_extra_info("socket")
        size = CREDENTIALS.size
        _, uid, _ = CREDENTIALS.unpack(
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        )
        return uid in self._users
