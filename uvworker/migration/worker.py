"""``UvicornWorker``, with the interface that subclasses of uvicorn's worker expect.

``_serve()`` may be wrapped or replaced, and the methods of the old class are called as
they were. All of this is translated to `Worker`'s own methods; the wing can be deleted
without a change to them. Its ``self.config`` is in `configuration`.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any, ClassVar

from gunicorn.workers import base

from ..assembly import Assembly
from ..process import exits
from ..process.heartbeat import clock
from ..process.loop import cancel, spawn, unlisted
from ..process.stop import CANCEL_WINDOW
from ..server import Server, Stage
from ..shared_memory.scoreboard import State
from .configuration import WithConfig

# Seconds that tasks beside the worker's own have after it, if they look at `alive`.
AFTER = 0.5
HANDLED = frozenset(base.Worker.SIGNALS) - {signal.SIGCHLD}


class UvicornWorker(WithConfig):
    """uvicorn's old worker class, for subclasses of it; without one, use `Worker`.

    Writes to ``self.config``, and ``CONFIG_KWARGS``, set options and are checked.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._written = {}
        self._made, self._clashes = {}, []
        super().__init__(*args, **kwargs)
        self._notifying: asyncio.Future[None] | None = None
        self._serving: asyncio.Task[None] | None = None
        self._handlers: dict[int, Any] = {}
        self._make_config()

    # In the worker, before the loop

    def _handle_boot_signals(self) -> None:
        super()._handle_boot_signals()
        self._handlers = {each: signal.getsignal(each) for each in HANDLED}

    def load_wsgi(self) -> None:
        """Restore handlers that ``init_signals`` of a subclass reset; import the app.

        uvicorn's ``init_signals`` sets every signal to its default. Then a worker that
        hangs would log no stacks, and a HUP to its process group would kill it.
        """
        for signum, handler in self._handlers.items():
            if signal.getsignal(signum) is signal.SIG_DFL and callable(handler):
                signal.signal(signum, handler)
        super().load_wsgi()

    def _loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop] | None:
        if not self._serves_itself():
            self._read_options()  # what was written since
            return super()._loop_factory()
        self.config.app = self.wsgi
        factory: Callable[[], asyncio.AbstractEventLoop] | None
        factory = self.config.get_loop_factory()
        return factory

    def _close_listeners(self) -> None:
        # A server of the subclass's own closes them when TERM ends it.
        self.sockets: list[Any] = [each for each in self.sockets if each.sock]
        super()._close_listeners()

    # On the loop

    async def _until_left(self) -> None:
        try:
            await super()._until_left()
        finally:
            await self._end_serving()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await cancel(others, CANCEL_WINDOW)

    async def _serve(self) -> None:
        """Serve with the worker's own server; a subclass may wrap this method.

        It may run other tasks beside it: they end after the worker has left, and if
        they fail or cancel this one, the worker drains first.
        """
        self._loop = asyncio.get_running_loop()
        if self._assembly is None or self._is_changed():
            self._read_options()
            self._assembly = self._assemble()
        self.config.app = self.wsgi
        if not _is_ours(self, "_install_sigquit_handler"):
            # After ours are installed, so that the subclass's replaces one.
            self._loop.call_soon(self._install_theirs)
        theirs = asyncio.all_tasks()
        with unlisted(theirs):  # or a leaving worker would cancel them
            self._serving = spawn(super()._serve())
            try:
                await asyncio.shield(self._serving)
            finally:
                await self._end_serving()
        for task in theirs - {asyncio.current_task()}:
            self._loop.call_later(0 if self._running.force_exit else AFTER, task.cancel)

    async def _end_serving(self) -> None:
        """Drain and leave, if the worker does not do so already."""
        serving = self._serving
        if serving is None or serving.done():
            return
        if not self._running.started:
            serving.cancel()
        elif self.alive:
            self._leave_early()
        await asyncio.wait([serving])

    def _reached(self, stage: Stage) -> None:
        length = self._owned().get("backlog")
        if stage is Stage.SERVING and length:
            for listener in self.sockets:
                listener.sock.listen(length)
        super()._reached(stage)

    def _is_changed(self) -> bool:
        """Return whether a subclass has changed something just before it serves."""
        return bool(self._find_writes()) or self.wsgi is not self._assembled

    def _assemble(self) -> Assembly:
        self._assembled = self.wsgi
        return super()._assemble()

    def _install_theirs(self) -> None:
        install: Callable[..., object] = self._install_sigquit_handler
        takes = len(inspect.signature(install).parameters)
        install(*[self._server][:takes])  # of older versions: with the server

    def _install_sigquit_handler(self) -> None:
        """Let QUIT end a server of the subclass's own; ours gets it from the loop."""
        if not isinstance(self._server, Server):
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(
                signal.SIGQUIT, self.handle_exit, signal.SIGQUIT, None
            )

    def _beat(self) -> None:
        super()._beat()
        callback = self.config.callback_notify
        if callback == self.callback_notify and _is_ours(self, "callback_notify"):
            return  # done above
        if self._notifying is None or self._notifying.done():
            self._notifying = asyncio.ensure_future(self._call_back(callback))

    async def _call_back(self, callback: Callable[[], Awaitable[None]] | None) -> None:
        try:
            result: Any = callback() if callback is not None else None
            if inspect.isawaitable(result):
                await result
        except Exception:  # a subclass's
            self.log.exception("Exception in callback_notify")

    async def callback_notify(self) -> None:
        """Send a heartbeat; called once a beat."""
        self.notify()

    async def _own_beat(self) -> None:
        """Send a heartbeat for a server of the subclass's own, which has started."""
        if self._slot.state is not State.SERVING:
            self._boot.done()
        self._slot.beat(clock())
        await self._call_back(
            self._owned().get("callback_notify", self.callback_notify)
        )

    # Signal handlers, on the loop

    def handle_abort(self, sig: int, frame: FrameType | None) -> None:
        """Exit on ABRT, where a subclass has installed it; run ``worker_abort`` once.

        Beside the worker's own handler, which has run the hook; in the boot alone.
        """
        if self.alive:
            super().handle_abort(sig, frame)
        sys.exit(exits.ABORTED)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Shut down quickly: on QUIT, or where a subclass has installed it."""
        super().handle_exit(sig, frame)
        if isinstance(self._server, Server):
            super()._interrupt()
        elif self._loop is not None:
            signal.raise_signal(signal.SIGINT)  # a server of the subclass's own
        else:
            self._leave_boot()

    def _leave_early(self) -> None:
        if isinstance(self._server, Server):
            super()._leave_early()
        else:
            signal.raise_signal(signal.SIGTERM)

    def _interrupt(self) -> None:
        if not self._interrupted:
            self.handle_exit(signal.SIGQUIT, None)
        super()._interrupt()

    def _reopen_files(self) -> None:
        self.handle_usr1(signal.SIGUSR1, None)  # gunicorn's reopens them


class UvicornH11Worker(UvicornWorker):
    """uvicorn's old worker without compiled parts: h11 on asyncio's own loop."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"http": "h11", "loop": "asyncio"}


def _is_ours(worker: UvicornWorker, name: str) -> bool:
    method = getattr(getattr(worker, name), "__func__", None)
    return method is getattr(UvicornWorker, name)
