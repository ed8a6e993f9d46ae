"""An app that ends the event loop: it ends this worker, but never the service.

``sys.exit()`` in a task or a signal handler, ``KeyboardInterrupt`` and ``loop.stop()``
end ``run_forever()``. Before the worker serves, they fail its boot. While it serves, it
drains, and the arbiter starts another.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

from ..shared_memory.history import Exit
from ..shared_memory.scoreboard import Slot, State
from . import children, exits
from .loop import turn

# Seconds until the worker acts on it: if a signal was the cause, the loop handles that
# signal within a few turns, and the worker leaves by it.
SIGNAL_HANDLED = 0.1


class AppExit:
    """One worker's loop, run to its end; made in the arbiter, used after the fork.

    *drain*: called on the loop, at most once.
    *log*: gunicorn's logger.
    """

    def __init__(self, slot: Slot, drain: Callable[[], object], log: Any) -> None:
        self._slot = slot
        self._drain = drain
        self._log = log
        self._code = exits.CLEAN

    def run(
        self, loop: asyncio.AbstractEventLoop, serving: Coroutine[Any, Any, None]
    ) -> None:
        """Run *loop* until *serving* is done, also if the app ends the loop before.

        Raises what *serving* raises, a ``SystemExit`` or ``KeyboardInterrupt`` from
        before the worker served, and `exits.Leaving` with the code that the app chose.
        """
        turn(loop, serving, functools.partial(self._interrupted, loop))
        if self._code != exits.CLEAN:
            raise exits.Leaving(self._code)

    def _interrupted(
        self, loop: asyncio.AbstractEventLoop, failure: BaseException | None
    ) -> None:
        children.exit_if_child(failure)
        own = isinstance(failure, exits.Leaving)
        if own or self._slot.state is State.BOOTING:
            raise failure or RuntimeError("The app stopped the event loop.")
        loop.call_later(SIGNAL_HANDLED, self._act, failure)

    def _act(self, failure: BaseException | None) -> None:
        if self._slot.terminating or self._slot.state is not State.SERVING:
            return
        self._log.error(
            "The app %s while it served: worker %d drains and is replaced.",
            f"raised {failure!r}" if failure else "stopped the event loop",
            self._slot.id,
            exc_info=failure,
        )
        if failure is not None:
            self._code = exits.harmless(exits.code_of(failure))
        self._slot.exit = Exit.APP
        self._drain()
