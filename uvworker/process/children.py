"""Processes that the app forks: they lose the service's sockets, and end with the app.

A forked child has a copy of everything of the worker. With the sockets it would keep
the port in use and the clients' connections open as long as it lives. With the worker's
stack, what it raises or returns from a request would go on as a second worker.

The rule: a child keeps what belongs to the app, and ends where the app's code ends, by
`os._exit`, as children of ``multiprocessing`` do: `atexit` and hooks are the worker's.
Nothing here runs in processes that the arbiter forks, nor before an ``exec``.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import socket
import stat
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from . import exits

App: TypeAlias = Callable[..., Awaitable[Any]]

WILDCARDS = ("0.0.0.0", "::")  # noqa: S104

_worker = 0  # the pid of the worker in this process or above it
_forking: asyncio.Task[Any] | None = None  # the task that forks this process


def watch(
    listeners: Sequence[socket.socket],
    loop: Callable[[], asyncio.AbstractEventLoop | None],
    forget: Callable[[], object],
) -> None:
    """Detach each child that this process forks from now on from the service.

    Runs in the worker, once, before the app is imported.

    *listeners*: accepted connections are recognised by their addresses.
    *loop*: returns the worker's event loop, or None if there is none yet.
    *forget*: called in each child: from then on it must not write to shared memory, nor
        to the worker's files.
    """
    global _worker  # noqa: PLW0603  what a process is, it is wholly
    _worker = os.getpid()
    addresses = [listener.getsockname() for listener in listeners]

    def note() -> None:
        global _forking  # noqa: PLW0603  from Python 3.14 on, a child has none
        shared = loop()
        _forking = None if shared is None else asyncio.current_task(shared)

    def part() -> None:
        _release(addresses)
        forget()
        if (shared := loop()) is not None:
            _abandon(shared)

    os.register_at_fork(before=note, after_in_child=part)


def disown() -> None:
    """Forget what the arbiter has started by `multiprocessing`.

    A process that exits joins such children, and ends those that are daemons; a fork
    inherits the list. `multiprocessing` empties it in its own children. It is private,
    and the same since Python 3.4.
    """
    module = sys.modules.get("multiprocessing.process")
    getattr(module, "_children", set()).clear()


def exit_if_child(failure: BaseException | None = None) -> None:
    """End this process if it is a child in which the app's code has ended.

    Called wherever the worker's code goes on after the app's.

    *failure*: the exception that the app's code raised, or None if it returned.
    """
    if _worker and os.getpid() != _worker:
        _end(failure or _failure_of(_forking))


def ending(app: App) -> App:
    """Wrap *app* so that a child ends after it: for its lifespan, and for uvicorn."""

    async def run(scope: Any, receive: Any, send: Any) -> object:
        try:
            result = await app(scope, receive, send)
        except BaseException as failure:
            exit_if_child(failure)
            raise
        exit_if_child()
        return result

    return run


class ForkedTransport:
    """A client's transport in a child: to use it ends the child. The parent answers."""

    def __getattr__(self, name: str) -> NoReturn:
        _end(sys.exc_info()[1])


def _end(failure: BaseException | None) -> NoReturn:
    """End this process as Python would, without the worker's `atexit` and hooks."""
    code = exits.CLEAN if failure is None else exits.code_of(failure)
    if not (failure is None or isinstance(failure, SystemExit)):
        traceback.print_exception(failure)
    elif isinstance(failure, SystemExit) and isinstance(failure.code, str):
        print(failure.code, file=sys.stderr)  # noqa: T201  as Python does
    for stream in sys.stdout, sys.stderr:
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _abandon(loop: asyncio.AbstractEventLoop) -> None:
    """Stop *loop* at the end of this turn: it shares the parent's selector."""
    with contextlib.suppress(RuntimeError):
        loop.stop()
    with contextlib.suppress(AttributeError):
        loop.call_soon_threadsafe = _thread_ended  # type: ignore[assignment, method-assign]


def _thread_ended(*args: Any, **_: Any) -> None:
    """End a child that was forked in a thread, and has done its work there.

    A thread of a pool calls this when its work is done, and then waits for more. A
    child of ``multiprocessing`` ends by itself, so for it this does nothing.
    """
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None:
        _end(next(filter(None, map(_failure_of, args)), None))


def _failure_of(result: Any) -> BaseException | None:
    if isinstance(result, BaseException):
        return result
    futures = asyncio.Future, concurrent.futures.Future
    over = isinstance(result, futures) and result.done() and not result.cancelled()
    return result.exception() if over else None


def _release(addresses: Sequence[Any]) -> None:
    """Replace the service's sockets by the null device.

    If they were closed, the child's files would get their numbers, and the objects that
    still hold the numbers would close those files. The parent's selector is unchanged.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in _descriptors():
        if _is_of_service(descriptor, addresses):
            os.dup2(null, descriptor, inheritable=False)
    os.close(null)


def _descriptors() -> Iterator[int]:
    for entry in Path("/dev/fd").iterdir():
        yield int(entry.name)


def _is_of_service(descriptor: int, addresses: Sequence[Any]) -> bool:
    """Whether it is a listener or a connection of one: both have its address."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        found = socket.socket(fileno=descriptor)
    except OSError:  # the one that listed them is closed by now
        return False
    try:
        return found.type == socket.SOCK_STREAM and any(
            _covers(address, found.getsockname()) for address in addresses
        )
    except OSError:
        return False
    finally:
        found.detach()


def _covers(listening: Any, local: Any) -> bool:
    if not (isinstance(listening, tuple) and isinstance(local, tuple)):
        return bool(listening) and listening == local
    host, port = listening[:2]
    return port == local[1] and (host in WILDCARDS or host == local[0])
