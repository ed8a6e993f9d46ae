"""How a worker died, noted in the arbiter before gunicorn reaps it.

gunicorn logs what ``waitpid`` says, and keeps it to itself. So its handler of SIGCHLD
gets one in front that looks at each worker's status and leaves it for ``waitpid``. The
rule: nothing here waits, reaps or raises.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TypeAlias

from ..shared_memory.history import Exit
from ..shared_memory.scoreboard import Scoreboard

Handler: TypeAlias = Callable[[int, FrameType | None], object]

LOOK = os.WEXITED | os.WNOHANG | os.WNOWAIT


def watch(board: Scoreboard) -> None:
    """Note deaths on *board* from now on; does nothing if it is done already.

    Runs in the arbiter's main thread, before each fork: the first time after gunicorn
    has installed its handler.
    """
    theirs = signal.getsignal(signal.SIGCHLD)
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return
    if callable(theirs) and not isinstance(theirs, _Noting):
        signal.signal(signal.SIGCHLD, _Noting(board, theirs))


class _Noting:
    """A handler in front of gunicorn's."""

    def __init__(self, board: Scoreboard, theirs: Handler) -> None:
        self._board = board
        self._theirs = theirs

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        look = os.WEXITED | os.WNOHANG | os.WNOWAIT
        for slot in self._board.unexplained():
            with suppress(OSError):  # it was reaped already
                status = os.waitid(os.P_PID, slot.pid, look)
                if status is None:
                    continue
                if status.si_code == os.CLD_EXITED:
                    slot.exit = Exit.UNEXPLAINED
                else:
                    slot.signal = status.si_status
        self._theirs(signum, frame)
