"""The signals of a worker: what each means, in each part of its life.

A handler schedules an intent and returns; the loop acts on it. There are two
exceptions: ABRT, which comes because the loop is blocked, and the boot, where no loop
turns yet.

The other rule: an app may handle a signal too, but never instead of the worker.
Handlers that it adds to the loop pass through the loop's methods (`_sharing`). A
handler that it sets by `signal.signal` leaves the worker's entry in the loop alone.
Anything else, such as ``SIG_IGN``, is undone at the next beat (`take_back`). So one
signal may call an intent twice; not that of USR1, which only the loop's entry calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeAlias

logger = logging.getLogger("uvicorn.error")

Intent: TypeAlias = Callable[[], object]

DRAIN = (signal.SIGTERM,)
QUIT = (signal.SIGINT, signal.SIGQUIT)
REOPEN = (signal.SIGUSR1,)

# The arbiter's. `pkill -USR2 gunicorn` or a resized terminal reaches workers too, and
# the kernel's default for most of these is to kill or to stop the process. When a
# terminal hangs up, workers get HUP before the arbiter has forked the next ones. A
# function rather than SIG_IGN, which the app's subprocesses would inherit.
NOT_OURS = (
    signal.SIGHUP,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGTTIN,
    signal.SIGTTOU,
)


def _pass(_signum: int, _frame: FrameType | None) -> None:
    """Ignore a signal that means nothing to a worker."""


_intents: dict[int, Intent] = {}  # in the present part of the worker's life


def _handle(signum: int, _frame: FrameType | None) -> None:
    """Call the present intent; an app that chains handlers may call this too."""
    _intents[signum]()


class _Shared:
    """The worker's handler and the app's for one signal; the worker's comes first.

    What the app's handler raises to end the process is dropped: the process ends
    already, and the exception would unwind whatever the main thread does.
    """

    def __init__(self, theirs: Callable[[int, FrameType | None], object]) -> None:
        self._theirs = theirs
        self._busy = False  # theirs may call the handler that it replaced: this

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            _handle(signum, frame)
        finally:
            self._call_theirs(signum, frame)
            self._busy = False

    def _call_theirs(self, signum: int, frame: FrameType | None) -> None:
        try:
            self._theirs(signum, frame)
        except BaseException as error:
            if signum in REOPEN:
                raise
            if not isinstance(error, (SystemExit, KeyboardInterrupt)):
                logger.exception("The app's handler of signal %d failed.", signum)


def take_back() -> None:
    """Reinstall the worker's handlers where the app replaced them, and keep the app's.

    On the main thread, once a beat: 2 microseconds.
    """
    for signum in _intents:
        present = signal.getsignal(signum)
        if present is _handle or isinstance(present, _Shared):
            continue
        if callable(present) and present is not signal.default_int_handler:
            _set(signum, _Shared(present))
        else:
            _set(signum, _handle)


def _set(signum: int, handler: Callable[[int, FrameType | None], object]) -> None:
    signal.signal(signum, handler)
    signal.siginterrupt(signum, False)  # as a loop has it


def install_boot_handlers(
    *, leave: Intent, interrupt: Intent, reopen: Intent, abort: Intent
) -> None:
    """Replace the arbiter's handlers, which the fork inherited, by plain ones.

    Runs in the worker, after the fork and before the app is imported. Every intent is
    called inside the signal handler, on the main thread, wherever it is: *leave* and
    *interrupt* are expected to raise ``SystemExit``, which ends an import at once.
    CHLD goes back to its default, so that the app's subprocesses get their own return
    codes. Signals that came since the fork are handled now.
    """
    global _in_worker  # noqa: PLW0603  what a process is, it is wholly
    _in_worker = True
    intents: dict[int, Intent] = {
        **dict.fromkeys(DRAIN, leave),
        **dict.fromkeys(QUIT, interrupt),
        **dict.fromkeys(REOPEN, reopen),
        signal.SIGABRT: abort,
    }
    _intents.update(intents)
    for signum in intents:
        signal.signal(signum, _handle)
    for signum in NOT_OURS:
        signal.signal(signum, _pass)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    while _early:
        intents[_early.pop(0)]()


def ignore_further() -> None:
    """Ignore TERM, INT and QUIT from now on, in a worker that leaves its boot.

    It often gets a signal twice: as a member of its process group, and from the
    arbiter. A second exception would come in the middle of ``worker_exit`` or `atexit`.
    """
    for signum in (*DRAIN, *QUIT):
        signal.signal(signum, signal.SIG_IGN)


# What a worker handles itself, and a process that the app forks must not.
_HANDLED = (*DRAIN, *QUIT, *REOPEN, *NOT_OURS, signal.SIGABRT)
_masks = threading.local()
_in_worker = False
_early: list[signal.Signals] = []  # came between the fork and the boot's handlers


@contextlib.contextmanager
def kept_for_main_thread() -> Iterator[None]:
    """Keep the worker's signals from threads that are started in this block.

    The kernel gives a signal to any thread that does not block it. Python then calls
    the handler on the main thread, but does not wake that from a system call: a loop
    that is blocked in one would never handle ABRT. An app's threads may still take it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@functools.cache  # once in each arbiter, and inherited by its workers
def watch_forks() -> None:
    """Keep forks, of workers and of their children, from losing or sharing signals.

    Runs in the arbiter, before the first fork. Signals are blocked until a new process
    has handlers of its own: the interpreter loses signals that come during a fork, and
    the inherited handlers are the parent's.
    """
    os.register_at_fork(
        before=_block, after_in_parent=_unblock, after_in_child=_release_child
    )


def _block() -> None:
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _release_child() -> None:
    if _in_worker:
        _restore_defaults()
    else:
        # The arbiter's handlers would swallow them. If it is a child of a hook, nothing
        # reads them, which changes nothing: the arbiter's handlers would not either.
        for signum in (*DRAIN, *QUIT, *REOPEN):
            signal.signal(signum, _remember)
    _unblock()


def _remember(signum: int, _frame: FrameType | None) -> None:
    _early.append(signal.Signals(signum))


def _restore_defaults() -> None:
    """Restore Python's own handlers in a process that the app forks.

    Handlers of a loop write to the descriptor that wakes it, which a fork shares: the
    worker would act on a TERM to the child.
    """
    signal.set_wakeup_fd(-1)
    for signum in _HANDLED:
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def loop_handlers(
    loop: asyncio.AbstractEventLoop, *, drain: Intent, quit_: Intent, reopen: Intent
) -> Iterator[None]:
    """Let the loop call the intents, between two callbacks; afterwards ignore them.

    Ignored, because a leaving worker often gets a signal again (the arbiter sends TERM
    to a surplus worker on every turn of its loop until it is gone), and the default
    handler that a loop restores would kill it before ``worker_exit``.
    """
    intents: dict[int, Intent] = {
        **dict.fromkeys(DRAIN, drain),
        **dict.fromkeys(QUIT, quit_),
        **dict.fromkeys(REOPEN, reopen),
    }
    for signum, intent in intents.items():
        _intents[signum] = functools.partial(loop.call_soon_threadsafe, intent)
    _intents.update(dict.fromkeys(REOPEN, _ignore))  # not twice: it may be a toggle
    try:
        with _sharing(loop, intents):
            yield
    finally:
        # Blocked meanwhile: between the two calls the default is in force.
        signal.pthread_sigmask(signal.SIG_BLOCK, intents)
        for signum in intents:
            loop.remove_signal_handler(signum)
            signal.signal(signum, signal.SIG_IGN)
            _intents[signum] = _ignore
        signal.pthread_sigmask(signal.SIG_UNBLOCK, intents)


def _ignore() -> None:
    """Do nothing: the worker leaves already, or the loop acts."""


@contextlib.contextmanager
def _sharing(
    loop: asyncio.AbstractEventLoop, intents: dict[int, Intent]
) -> Iterator[None]:
    """Keep an entry for each intent in *loop*'s table, also when the app adds its own.

    Replaces two methods of this loop object, which is the worker's. On a loop whose
    methods cannot be replaced, the app's handler stands alone until the next beat.
    """
    shared = _SharedTable(loop, intents)
    methods = {
        "add_signal_handler": shared.add,
        "remove_signal_handler": shared.remove,
    }
    with contextlib.suppress(AttributeError):
        for name, method in methods.items():
            setattr(loop, name, method)
    try:
        yield
    finally:
        for name in methods:
            with contextlib.suppress(AttributeError):
                delattr(loop, name)


class _SharedTable:
    """A loop's table of signal handlers, in which the worker's entries stay."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, intents: dict[int, Intent]
    ) -> None:
        self._loop = loop
        self._add, self._remove = loop.add_signal_handler, loop.remove_signal_handler
        self._intents = intents
        self._theirs: set[int] = set()
        for signum, intent in intents.items():
            before = signal.getsignal(signum)  # may be set by the app's import
            self._add(signum, intent)
            signal.signal(signum, before)
        take_back()

    def add(self, signum: int, callback: Callable[..., object], *args: Any) -> None:
        """Add the app's handler, as the loop's method does, and keep the worker's."""
        self._add(signum, callback, *args)  # raises what it always does
        intent = self._intents.get(signum)
        if intent is not None:
            self._theirs.add(signum)
            self._add(signum, _both, intent, functools.partial(callback, *args))
        if signum in _intents:
            _set(signum, _handle)

    def remove(self, signum: int) -> bool:
        """Remove the handler of the app, as the loop does, and keep the worker's."""
        intent = self._intents.get(signum)
        if intent is None or self._loop.is_closed():
            return self._remove(signum)
        theirs = signum in self._theirs
        self._theirs.discard(signum)
        self._add(signum, intent)
        _set(signum, _handle)
        return theirs


def _both(intent: Intent, theirs: Callable[[], object]) -> None:
    intent()
    theirs()
