"""The ASGI lifespan protocol: one startup, one shutdown, and how each went.

ASGI specification, "Lifespan Protocol" 2.0. Differs from uvicorn's in one rule: in
``auto``, an app that raises *after* it took the ``lifespan.startup`` event speaks the
protocol and has failed to start; only one that raises before it does not speak it.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
App: TypeAlias = Callable[..., Awaitable[None]]
Mode: TypeAlias = Literal["auto", "on", "off"]  # gunicorn's ``asgi_lifespan``


class LifespanFailed(Exception):  # noqa: N818  what happened, as ASGI names the event
    """The app answered ``failed``, or raised instead of answering.

    ``str()`` is the app's message, with its traceback if it sent one; ``__cause__``
    is what the app raised, if it raised.
    """


class _Phase(enum.Enum):
    UNASKED = enum.auto()  # the app has not taken an event yet
    STARTING = enum.auto()
    STARTED = enum.auto()
    STOPPING = enum.auto()
    ENDED = enum.auto()


_ANSWERS = {
    _Phase.UNASKED: ("lifespan.startup.complete", "lifespan.startup.failed"),
    _Phase.STARTING: ("lifespan.startup.complete", "lifespan.startup.failed"),
    _Phase.STOPPING: ("lifespan.shutdown.complete", "lifespan.shutdown.failed"),
}


class Lifespan:
    """One app's lifespan, run as one task on the worker's loop.

    ``state`` is the dictionary that ``scope["state"]`` of every request is copied from.
    """

    def __init__(self, app: App, mode: Mode, asgi_version: str = "3.0") -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._mode = mode
        self._asgi_version = asgi_version
        self._phase = _Phase.UNASKED
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answer: asyncio.Future[Message]
        self._task: asyncio.Task[None]

    async def startup(self) -> bool:
        """Ask the app to start, and return whether it speaks the protocol.

        Raises :class:`LifespanFailed` when it failed, or when ``asgi_lifespan`` is
        ``on`` and it does not speak the protocol.
        """
        if self._mode == "off":
            return False
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(_retrieve)
        try:
            answered = await self._ask("lifespan.startup")
        except LifespanFailed:
            if self._phase is not _Phase.UNASKED or self._mode == "on":
                raise
            answered = False
        if not answered and self._mode == "on":
            raise LifespanFailed(
                "application startup failed: the app ended without an answer, which "
                "asgi_lifespan = 'on' requires."
            )
        self._phase = _Phase.STARTED if answered else _Phase.ENDED
        return answered

    async def shutdown(self) -> None:
        """Ask the app to stop, and wait for its answer; nothing if it never started.

        Raises :class:`LifespanFailed` when it failed.
        """
        if self._phase is not _Phase.STARTED:
            return
        self._phase = _Phase.STOPPING
        await self._ask("lifespan.shutdown")
        self._phase = _Phase.ENDED

    async def _ask(self, event: str) -> bool:
        """Send *event* and return whether the app answered, or ended without a word."""
        self._answer = asyncio.get_running_loop().create_future()
        self._events.put_nowait({"type": event})
        either: list[asyncio.Future[Any]] = [self._answer, self._task]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self._answer.done():
            answer = self._answer.result()
            if answer["type"].endswith(".failed"):
                raise LifespanFailed(_sentence(event, answer.get("message", "")))
            return True
        if exc := _retrieve(self._task):
            raise LifespanFailed(_sentence(event, repr(exc))) from exc
        return False

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": self._asgi_version, "spec_version": "2.0"},
            "state": self.state,
        }
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        event = await self._events.get()
        if self._phase is _Phase.UNASKED:
            self._phase = _Phase.STARTING
        return event

    async def _send(self, message: Message) -> None:
        answers = _ANSWERS.get(self._phase, ())
        if message["type"] not in answers or self._answer.done():
            raise RuntimeError(
                f"Unexpected ASGI lifespan message {message['type']!r}: "
                f"expected {' or '.join(answers) or 'none at this point'}."
            )
        self._answer.set_result(message)


def _sentence(event: str, message: str) -> str:
    """Say what failed: "application startup failed: ...", as the app put it."""
    what = f"application {event.removeprefix('lifespan.')} failed"
    return f"{what}: {message}" if message else f"{what}, and the app does not say why."


def _retrieve(task: asyncio.Task[None]) -> BaseException | None:
    """Return what *task* raised; asking also keeps asyncio from reporting it again."""
    try:
        return task.exception()
    except asyncio.CancelledError as cancelled:  # by the app itself
        return cancelled
