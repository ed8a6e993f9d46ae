"""The signal table of a worker: which signal means what, in which part of its life.

A handler sets an intent and returns; the loop acts on it. The two exceptions are
ABRT, which comes because the loop hangs, and the boot, where no loop turns yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeAlias

Intent: TypeAlias = Callable[[], object]

DRAIN = (signal.SIGTERM,)
QUIT = (signal.SIGINT, signal.SIGQUIT)
REOPEN = (signal.SIGUSR1,)

# The arbiter's own. `pkill -USR2 gunicorn` or a resized terminal reaches workers too,
# and the kernel's default for most of these is to kill or to stop the process; of a
# terminal that hangs up, workers hear before the arbiter has forked the next ones. A
# function rather than SIG_IGN, which the app's subprocesses would inherit.
NOT_OURS = (
    signal.SIGHUP,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGTTIN,
    signal.SIGTTOU,
)


def _pass(_signum: int, _frame: FrameType | None) -> None:
    """Take a signal that means nothing to a worker."""


def install_boot_handlers(
    *, leave: Intent, interrupt: Intent, reopen: Intent, abort: Intent
) -> None:
    """Replace the arbiter's handlers, which the fork inherited, by plain ones.

    Runs in the worker, after the fork and before the app is imported. Every intent is
    called inside the signal handler, on the main thread, wherever it is: *leave* and
    *interrupt* are expected to raise ``SystemExit``, which ends an import at once.
    CHLD goes back to its default, so that the app's subprocesses get their own return
    codes. What came before these handlers is handled now.
    """
    global _in_worker  # noqa: PLW0603  what a process is, it is wholly
    _in_worker = True
    intents = {
        **dict.fromkeys(DRAIN, leave),
        **dict.fromkeys(QUIT, interrupt),
        **dict.fromkeys(REOPEN, reopen),
        signal.SIGABRT: abort,
    }
    for signum, intent in intents.items():
        signal.signal(signum, _handler(intent))
    for signum in NOT_OURS:
        signal.signal(signum, _pass)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    while _early:
        intents[_early.pop(0)]()


def ignore_further() -> None:
    """Ignore TERM, INT and QUIT from now on, in a worker that leaves its boot.

    It is often told twice: with its group, and by the arbiter that was told so too. A
    second exception would come in the middle of ``worker_exit`` or `atexit`.
    """
    for signum in (*DRAIN, *QUIT):
        signal.signal(signum, signal.SIG_IGN)


# What a worker handles itself, and a process that the app forks must not.
_HANDLED = (*DRAIN, *QUIT, *REOPEN, *NOT_OURS, signal.SIGABRT)
_masks = threading.local()
_in_worker = False
_early: list[
    signal.Signals
] = []  # signals that came between the fork and the boot's handlers


@functools.cache  # once in each arbiter, and inherited by its workers
def watch_forks() -> None:
    """Let no signal be lost or shared in a fork, of a worker or of its own children.

    Runs in the arbiter, before the first fork. Signals wait until a new process has
    handlers that suit it: the interpreter forgets what comes during a fork, and the
    handlers that are inherited are the parent's.
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
        # The arbiter's handlers would swallow them. It may also be a child of a hook,
        # which would have lost them all the same.
        for signum in (*DRAIN, *QUIT, *REOPEN):
            signal.signal(signum, _remember)
    _unblock()


def _remember(signum: int, _frame: FrameType | None) -> None:
    _early.append(signal.Signals(signum))


def _restore_defaults() -> None:
    """Give a process that the app forks (``multiprocessing``) Python's own handlers.

    Those of a loop write to the descriptor that wakes it, which a fork shares: a TERM
    to the child would be taken by the worker for its own.
    """
    signal.set_wakeup_fd(-1)
    for signum in _HANDLED:
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _handler(intent: Intent) -> Callable[[int, FrameType | None], None]:
    def handle(_signum: int, _frame: FrameType | None) -> None:
        intent()

    return handle


@contextlib.contextmanager
def loop_handlers(
    loop: asyncio.AbstractEventLoop, *, drain: Intent, quit_: Intent, reopen: Intent
) -> Iterator[None]:
    """Let the loop call the intents, between two callbacks; afterwards ignore them.

    Afterwards, because a leaving worker is often told twice (the arbiter sends TERM to
    a surplus worker on every turn of its loop until it is gone), and the default
    handler that a loop restores would kill it before ``worker_exit``.
    """
    intents = {
        **dict.fromkeys(DRAIN, drain),
        **dict.fromkeys(QUIT, quit_),
        **dict.fromkeys(REOPEN, reopen),
    }
    for signum, intent in intents.items():
        loop.add_signal_handler(signum, intent)
    try:
        yield
    finally:
        # Blocked meanwhile: between the two calls the default is in force.
        signal.pthread_sigmask(signal.SIG_BLOCK, intents)
        for signum in intents:
            loop.remove_signal_handler(signum)
            signal.signal(signum, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, intents)
