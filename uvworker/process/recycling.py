"""The limits after which a worker is replaced by a new one.

Three limits: gunicorn's ``max_requests``, and this package's ``max_rss`` and
``max_lifetime``. This room says whether one is reached; `handover.may_recycle` decides
whose turn it is, and recycling itself is a drain.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ..machine.memory import MEGABYTE, resident_memory

# A worker waits for its turn until it exceeds a limit this many times: one that leaks
# fast must not take the machine down while it waits.
HARD = 2


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a worker is to be recycled, with the figures, for the log."""

    limit: str  # its name
    text: str
    hard: bool  # the worker does not wait for its turn


class Recycling:
    """One worker's limits and its count of requests; made in the worker.

    *max_requests*: requests and WebSockets; 0 for no limit.
    *max_rss*: bytes; *max_lifetime*: seconds; None for no limit.
    The jitters, in the units of their limits, are drawn here.
    Raises :class:`~uvworker.machine.memory.NoMemoryFigure` if *max_rss* cannot be
    watched.
    """

    def __init__(
        self,
        *,
        max_requests: int = 0,
        max_requests_jitter: int = 0,
        max_rss: int | None = None,
        max_lifetime: float | None = None,
        max_lifetime_jitter: float = 0.0,
    ) -> None:
        self.requests = 0
        self._born = time.monotonic()
        self._max_requests = max_requests
        if max_requests:
            self._max_requests += random.randint(0, max_requests_jitter)  # noqa: S311
        self._max_rss = max_rss
        if max_rss is not None:
            resident_memory()
        self._max_lifetime = max_lifetime
        if max_lifetime is not None:
            jitter = random.uniform(0, max_lifetime_jitter)  # noqa: S311
            self._max_lifetime = max_lifetime + jitter

    @property
    def counts(self) -> bool:
        """Whether requests have to be counted at all."""
        return bool(self._max_requests)

    def counted(
        self, app: Callable[..., Awaitable[None]], on_limit: Callable[[], object]
    ) -> Callable[..., Awaitable[None]]:
        """Return *app*, counting what it is given before it gets it.

        *on_limit*: called when ``max_requests`` is reached, and again at ``HARD``
        times as many. The request that reaches it is still answered here.
        """
        marks = {self._max_requests, self._max_requests * HARD}

        # Not a coroutine: what it returns is the app's own, so that a request costs
        # one call more and not one frame on each of its awaits.
        def count(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
            if scope["type"] != "lifespan":
                self.requests += 1
                if self.requests in marks:
                    on_limit()
            return app(scope, receive, send)

        return count

    def reached(self) -> Reason | None:
        """Return the first limit that is reached; reads the memory if it must."""
        if self._max_requests and self.requests >= self._max_requests:
            text = f"{self.requests} requests, max_requests {self._max_requests}"
            return Reason(
                "max_requests", text, self.requests >= self._max_requests * HARD
            )
        age = time.monotonic() - self._born
        if self._max_lifetime is not None and age >= self._max_lifetime:
            text = f"{age:.0f} s old, max_lifetime {self._max_lifetime:.0f} s"
            return Reason("max_lifetime", text, age >= self._max_lifetime * HARD)
        if self._max_rss is not None and (rss := resident_memory()) >= self._max_rss:
            text = f"{_megabytes(rss)} resident, max_rss {_megabytes(self._max_rss)}"
            return Reason("max_rss", text, rss >= self._max_rss * HARD)
        return None


def _megabytes(size: int) -> str:
    return f"{size / MEGABYTE:.0f} MB"
