"""Warnings about requests that have no answer after `slow_request` seconds.

As php-fpm's slow log, but for tasks: the line says where the request waits. A response
that has begun is not slow, however long it takes: event streams and downloads do. A
WebSocket is never slow.

The rule: a request costs nothing. The tasks of the requests are looked at from time to
time, and the age of one counts from the first look at it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from . import attribution
from .stacks import Stack

LOOKS = 4  # in `slow_request` seconds
LONGEST_PERIOD = 1.0  # seconds between two looks
LINES = 10  # a minute: in an outage every request is slow
MINUTE = 60.0  # seconds
PLACES = 12  # of a stack, the innermost

SERVER = ("uvworker", "uvicorn")  # whose frames every request has


class SlowRequests:
    """Looks at the requests of one loop. Made in the worker.

    *tasks*: those of its requests; each is removed when it ends.
    *seconds*: after which a request is slow.
    *log*: gunicorn's logger.
    """

    def __init__(
        self, tasks: Collection[asyncio.Task[Any]], seconds: float, log: Any
    ) -> None:
        self._tasks = tasks
        self._seconds = seconds
        self._log = log
        self._period = min(seconds / LOOKS, LONGEST_PERIOD)
        self._seen: dict[asyncio.Task[Any], float] = {}  # first; inf once examined
        self._minute = -math.inf  # when the present one began
        self._lines = 0  # in it, those left out too
        self._next: asyncio.TimerHandle

    @contextmanager
    def watching(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Look at the requests until the block is left."""

        def look() -> None:
            self._next = loop.call_later(self._period, look)
            self._look(loop.time())

        look()
        try:
            yield
        finally:
            self._next.cancel()

    def _look(self, now: float) -> None:
        seen = self._seen
        self._seen = seen = {task: seen.get(task, now) for task in self._tasks}
        for task, since in seen.items():
            if now - since >= self._seconds:
                seen[task] = math.inf
                answer = attribution.answering(task)
                if answer is not None and _awaits_response(answer):
                    self._report(task, answer, since, now)

    def _report(
        self, task: asyncio.Task[Any], answer: Any, since: float, now: float
    ) -> None:
        left_out = 0
        if now - self._minute >= MINUTE:
            left_out = max(self._lines - LINES, 0)
            self._minute, self._lines = now, 0
        self._lines += 1
        if self._lines > LINES:
            return
        scope = answer.scope
        self._log.warning(
            "Slow request: %s from %s has had no answer for %.1f s.%s It is here: %s",
            attribution.name(scope),
            _client(scope),
            # A protocol that measures durations knows better.
            now - getattr(answer, "started", since),
            f" {left_out} before it are not reported." if left_out else "",
            "; ".join(_places(s) for s in attribution.at_work(task, scope) if s),
        )


def _awaits_response(answer: Any) -> bool:
    """Whether it is an HTTP request whose response has not begun."""
    begun = getattr(answer, "status", 0) or getattr(answer, "response_started", False)
    return answer.scope["type"] == "http" and not begun  # ours, and uvicorn's


def _client(scope: attribution.Scope) -> str:
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else "a unix socket"


def _places(stack: Stack) -> str:
    """Return a stack on one line, without the server's own frames above the app's."""
    names = [str(frame.f_globals.get("__name__")) for frame, _ in stack]
    first = next(
        (n for n, name in enumerate(names) if name.split(".")[0] not in SERVER), 0
    )
    places = [
        f"{name}:{line} {frame.f_code.co_name}"
        for name, (frame, line) in zip(names, stack, strict=True)
    ][first:]
    cut = ["..."] if len(places) > PLACES else []
    return " > ".join(cut + places[-PLACES:])
