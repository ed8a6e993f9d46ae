"""The ASGI lifespan protocol: one startup, one shutdown, and the result of each.

ASGI specification, "Lifespan Protocol" 2.0. In ``auto``, the first answer shows whether
an app supports the protocol: a ``lifespan.*`` message, or another one. An app that
raises before it answers counts as an app whose startup failed only if it received the
event and compared ``scope["type"]`` with "lifespan" or "http". (uvicorn serves such an
app.) An app that treats every scope as a request does not compare it, fails on the
event, and is served without a lifespan.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Literal, TypeAlias

from .asgi import ASGIApp, Message

logger = logging.getLogger("uvicorn.error")

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
Mode: TypeAlias = Literal["auto", "on", "off"]  # gunicorn's ``asgi_lifespan``


class LifespanFailed(Exception):  # noqa: N818  what happened, as ASGI names the event
    """The app answered ``failed``, or raised an exception instead of an answer.

    ``str()`` is the app's message, with its traceback if it sent one; ``__cause__``
    is what the app raised, if it raised.
    """


class _Phase(enum.Enum):
    UNASKED = enum.auto()  # the app has not received an event yet
    STARTING = enum.auto()
    STARTED = enum.auto()
    STOPPING = enum.auto()
    ENDED = enum.auto()


_BOOT = _Phase.UNASKED, _Phase.STARTING
_STARTUP = "lifespan.startup.complete", "lifespan.startup.failed"
_SHUTDOWN = "lifespan.shutdown.complete", "lifespan.shutdown.failed"
_ANSWERS = {
    _Phase.UNASKED: _STARTUP,
    _Phase.STARTING: _STARTUP,
    _Phase.STARTED: _SHUTDOWN,  # without an event, if something in the lifespan fails
    _Phase.STOPPING: _SHUTDOWN,
    _Phase.ENDED: (),
}
_FAILURES = {
    _Phase.UNASKED: "application startup failed",
    _Phase.STARTING: "application startup failed",
    _Phase.STARTED: "application lifespan ended; the worker serves without it",
    _Phase.STOPPING: "application shutdown failed",
}
_EXITS = SystemExit, KeyboardInterrupt


class _Type(str):  # noqa: SLOT000  there is one of them
    """``scope["type"]``, which records that an app compares it.

    Many apps compare it with "http" only, and treat everything else as the lifespan.
    """

    recognised = False

    def __eq__(self, other: object) -> bool:
        self.recognised |= other in ("lifespan", "http")
        return isinstance(other, str) and str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


class Lifespan:
    """One app's lifespan, run as one task on the worker's loop.

    If it ends while the worker serves, that is logged at ERROR at once. The worker
    continues to serve, and sends no shutdown event.

    ``state`` is the dictionary of which each request gets a copy as ``scope["state"]``.
    ``tasks`` holds the app's task from its start on; a quick shutdown may cancel it.
    *spawn*: starts that task.
    *lost*: called with why the lifespan ended while the worker serves.
    """

    def __init__(
        self,
        app: ASGIApp,
        mode: Mode,
        asgi_version: str,
        spawn: Spawn,
        lost: Callable[[str], object] = lambda _why: None,
    ) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._mode = mode
        self._asgi_version = asgi_version
        self._spawn = spawn
        self._lost = lost
        self._phase = _Phase.UNASKED
        self._type = _Type("lifespan")
        self._speaks = False
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answer: asyncio.Future[bool]
        self._task: asyncio.Task[None]
        self.tasks: set[asyncio.Task[None]] = set()

    async def startup(self) -> bool:
        """Send the startup event, and return whether the app supports the protocol.

        Raises :class:`LifespanFailed` if the startup fails, or if ``asgi_lifespan`` is
        ``on`` and the app does not support the protocol.
        """
        if self._mode == "off":
            return False
        self._task = self._spawn(self._run())
        self.tasks.add(self._task)
        try:
            started = await self._ask("lifespan.startup")
        except LifespanFailed as failure:
            if self._speaks or self._mode == "on":
                raise
            logger.info("The app has no lifespan: it raised %r.", failure.__cause__)
            return False
        if not started and self._mode == "on":
            raise LifespanFailed(
                "application startup failed: the app does not support the lifespan "
                "protocol, which asgi_lifespan = 'on' requires."
            )
        return started

    async def shutdown(self) -> None:
        """Send the shutdown event and wait for the answer, if the lifespan runs.

        Raises :class:`LifespanFailed` if the shutdown fails.
        """
        if self._phase is _Phase.STARTED:
            self._phase = _Phase.STOPPING
            await self._ask("lifespan.shutdown")

    async def _ask(self, event: str) -> bool:
        """Send *event*, and return whether the lifespan runs after it."""
        self._answer = asyncio.get_running_loop().create_future()
        self._events.put_nowait({"type": event})
        return await self._answer

    async def _run(self) -> None:
        scope = {
            "type": self._type,
            "asgi": {"version": self._asgi_version, "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except GeneratorExit:
            raise
        except BaseException as exc:
            if self._is_exit(exc):
                raise
            self._speaks |= self._phase is _Phase.STARTING and self._type.recognised
            self._fail(repr(exc), exc)
        else:
            self._end("the app returned")

    def _is_exit(self, exc: BaseException) -> bool:
        """Return whether *exc* ends the process: at boot, any exit does.

        Later only a subclass does, which the worker's own signal handlers raise.
        """
        is_plain = type(exc) in _EXITS
        return isinstance(exc, _EXITS) and (self._phase in _BOOT or not is_plain)

    async def _receive(self) -> Message:
        event = await self._events.get()
        if self._phase is _Phase.UNASKED:
            self._phase = _Phase.STARTING
        return event

    async def _send(self, message: Message) -> None:
        answers = _ANSWERS[self._phase]
        kind = message.get("type") if isinstance(message, Mapping) else None
        self._speaks |= str(kind).startswith("lifespan.")
        if kind not in answers:
            if not self._speaks:
                self._end("")  # now: the app may catch what follows
            raise RuntimeError(
                f"Unexpected ASGI lifespan message {kind!r}: "
                f"expected {' or '.join(answers) or 'none at this point'}."
            )
        if kind.endswith(".failed"):
            text = str(message.get("message", ""))
            # Frameworks send their traceback; else it is that of the current exception.
            self._fail(text, None if "Traceback" in text else sys.exc_info()[1])
        elif self._phase in _BOOT:
            self._phase = _Phase.STARTED
            self._settle(started=True)
        else:
            self._end("the app has shut down")

    def _fail(self, text: str, cause: BaseException | None) -> None:
        """Note that the lifespan has ended with a failure; the first one counts."""
        phase, self._phase = self._phase, _Phase.ENDED
        if phase is _Phase.ENDED:
            return
        reason = f": {text}" if text else "; the app gives no reason."
        failure = LifespanFailed(_FAILURES[phase] + reason)
        failure.__cause__ = cause
        if phase is _Phase.STARTED:
            logger.error("%s", failure, exc_info=cause)
            self._lost(str(failure))
        elif not self._answer.done():
            self._answer.set_exception(failure)

    def _end(self, why: str) -> None:
        """Note that the lifespan has ended; a failure only while the worker serves."""
        if self._phase is _Phase.STARTED:
            self._fail(why, None)
        elif self._phase is not _Phase.ENDED:
            self._phase = _Phase.ENDED
            self._settle(started=False)

    def _settle(self, *, started: bool) -> None:
        if not self._answer.done():  # or cancelled, by a stop
            self._answer.set_result(started)
