"""A file on its way to a client: the body of a response that an app names by a path.

Two rules: what goes out has the length that was announced, or is cut; and nothing is
held for a client but an open file, neither bytes of it nor a thread.

The kernel copies it (`sendfile(2)`) wherever what the transport writes is what the
client gets. uvloop has no `loop.sendfile()`, and asyncio's takes no piece at a time. So
a copy of the transport's descriptor is watched here, as loops refuse to watch one that
a transport has, and used once the transport has nothing of its own to write.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from ..machine.send_queue import unacknowledged
from .deadlines import NEVER, Clock

# Bytes that the kernel is asked to copy before other connections have their turn. One
# call copies all of a file to a client that is fast enough, and takes seconds for it.
PIECE = 1 << 20

# Bytes that are read, and held by the transport, where the kernel cannot copy.
READ = 1 << 18

# What sendfile(2) says of a file, on a file system that has no way for it.
NOT_SENDABLE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)

# What it says of the file, and not of the connection.
UNREADABLE = (errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EOVERFLOW, errno.EACCES)


class FileFault(Exception):  # noqa: N818 - what is wrong with a file of the app's
    """A file cannot be sent, or not to its end; the message says why."""


class Outlet(Protocol):
    """A connection, as far as a file needs it."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    gate: asyncio.Event | None  # set once the client takes more; None: it does now

    def pause_writing(self) -> None:
        """Set up the gate."""

    def resume_writing(self) -> None:
        """Open the gate."""


class Progress(Protocol):
    """A response, as far as a file needs it."""

    sent: int  # bytes of body
    lost: bool  # the client is gone


class File:
    """A regular file, open from its construction on.

    *left*: the bytes from *offset* to the end that the file had then. Raises
    :class:`FileFault`.
    """

    __slots__ = ("descriptor", "left", "offset")

    def __init__(self, path: str) -> None:
        # At once also where it is a FIFO that nobody writes to.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            self.descriptor = os.open(path, flags)
        except (OSError, ValueError) as error:  # a null byte
            raise FileFault(getattr(error, "strerror", None) or str(error)) from None
        status = os.fstat(self.descriptor)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise FileFault("it is no regular file")
        self.offset, self.left = 0, status.st_size

    def close(self) -> None:
        """Close it; once only."""
        os.close(self.descriptor)

    def read(self, size: int) -> bytes:
        """Return the next bytes: *size*, or all that are left."""
        size = min(size, self.left)
        with _blamed():
            piece = os.pread(self.descriptor, size, self.offset)
        self._advance(len(piece), ended=len(piece) < size)
        return piece

    def copy(self, target: int) -> int:
        """Let the kernel copy some of the next bytes to *target*, and return how many.

        Raises ``OSError`` for what is wrong with *target*.
        """
        with _blamed():
            size = min(PIECE, self.left)
            copied = os.sendfile(target, self.descriptor, self.offset, size)
        self._advance(copied, ended=not copied)
        return copied

    def _advance(self, size: int, *, ended: bool) -> None:
        self.offset += size
        self.left -= size
        if ended:
            raise FileFault(f"it ended {self.left} bytes early")


@contextmanager
def _blamed() -> Iterator[None]:
    """Tell errors of the file from those of a connection."""
    try:
        yield
    except OSError as error:
        if error.errno in UNREADABLE:
            raise FileFault(str(error.strerror)) from None
        raise


class Patience:
    """A deadline for a client: it takes something of a file within *turns*, or is lost.

    An app that waits in `send()` for a client that has stopped reading would wait for
    ever, and hold the connection and the file.
    """

    stalled = NEVER

    def __init__(
        self, clock: Clock, turns: int, outlet: Outlet, progress: Progress
    ) -> None:
        self.deadline = clock.turn + turns
        self._clock, self._turns = clock, turns
        self._outlet, self._progress = outlet, progress
        self._taken = -1

    def expire(self) -> None:
        """Break with the client, or look again later."""
        transport = self._outlet.transport
        taken = self._progress.sent - unacknowledged(transport)
        if taken == self._taken:
            transport.abort()
        self._taken = taken
        self.deadline = self._clock.turn + self._turns


async def send(file: File, outlet: Outlet, progress: Progress) -> bool:
    """Let the kernel copy all that is left of *file*, until the client is lost.

    Returns False, and has sent nothing, if the file system has no way for it.

    Raises:
        FileFault: the file is shorter by now, or cannot be read.
        OSError: the client is gone.

    """
    await _written(outlet)
    if progress.lost:
        return True
    target = os.dup(outlet.transport.get_extra_info("socket").fileno())
    try:
        outlet.loop.add_writer(target, outlet.resume_writing)
        while file.left and not progress.lost:
            with suppress(BlockingIOError):
                progress.sent += file.copy(target)
            if file.left:
                outlet.pause_writing()
                await _open(outlet)
    except OSError as error:
        if error.errno in NOT_SENDABLE:
            return False
        raise
    finally:
        outlet.loop.remove_writer(target)
        os.close(target)  # or the client would not see the connection's end
        outlet.resume_writing()
    return True


async def _written(outlet: Outlet) -> None:
    """Wait until the transport has written all that it holds, or is closed."""
    if outlet.transport.is_closing():
        return
    outlet.transport.set_write_buffer_limits(0)
    try:
        await _open(outlet)
    finally:
        if not outlet.transport.is_closing():  # uvloop's has no limits then
            outlet.transport.set_write_buffer_limits()


async def turn(outlet: Outlet) -> None:
    """Let other connections have their turn, and the client take what was written."""
    await asyncio.sleep(0)
    await _open(outlet)


async def _open(outlet: Outlet) -> None:
    while outlet.gate is not None:
        await outlet.gate.wait()
