"""Counts of answered requests: by method, class of the status and duration.

The metrics are those of OpenTelemetry's HTTP server conventions, with the buckets that
they advise. They are counted in shared memory at once, so that they outlive a worker
that is killed. The rule: a request costs a few words, and their number is fixed, so
that no client can add any. Requests are counted only if `ops_bind` is set.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .record import AccessRecord

METHODS = (
    *("GET", "HEAD", "POST", "PUT", "DELETE"),
    *("CONNECT", "OPTIONS", "TRACE", "PATCH", "_OTHER"),
)
CLASSES = 5  # 1xx to 5xx
# Seconds: upper bounds of the buckets, as OpenTelemetry advises; the last has none.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
FIRST = BOUNDS[0]  # most requests are in the first bucket

# Words of a series: the sum of durations, bytes of bodies sent and received, buckets.
_SENT, _RECEIVED, _BUCKETS = 1, 2, 3
_SERIES = _BUCKETS + len(BOUNDS) + 1
# Where the series of a method begins, by the status.
_PLACES = {
    name: [
        (index * CLASSES + max(status // 100 - 1, 0)) * _SERIES for status in range(600)
    ]
    for index, name in enumerate(METHODS)
}
_OF_OTHERS = _PLACES["_OTHER"]

# Why the server refuses a request itself, by the status of its answer.
REASONS = {
    400: "malformed",
    408: "timeout",
    413: "body_too_large",
    414: "line_too_long",
    431: "fields_too_large",
    501: "unsupported",
    503: "unavailable",
    0: "other",
}
_REFUSED = len(METHODS) * CLASSES * _SERIES
_REFUSALS = {status: _REFUSED + index for index, status in enumerate(REASONS)}

SIZE = _REFUSED + len(REASONS)  # words in all


class Tally:
    """The writing end of one worker's counts; made in it, after the fork.

    *words*: `SIZE` floats, which have no other writer. The counts of the worker that
    had them before stay, and these are added.
    *websockets*: how many are open now.
    """

    __slots__ = ("websockets", "words")

    def __init__(self, words: memoryview[float]) -> None:
        self.words = words
        self.websockets = 0

    def detach(self) -> None:
        """Write to private memory from now on; in a process that the app forks."""
        self.words = memoryview(bytearray(self.words.nbytes)).cast("d")

    def count(
        self, method: str, status: int, duration: float, received: int, sent: int
    ) -> None:
        """Count one answered request.

        Args:
            method: as sent; methods that OpenTelemetry does not list count as one.
            status: as sent, or 499 if the client left before that; 100 to 599.
            duration: seconds from the request's head to the end of the response.
            received: bytes of the request's body.
            sent: bytes of the response's body.

        """
        words = self.words
        at = _PLACES.get(method, _OF_OTHERS)[status]
        words[at] += duration
        words[at + _SENT] += sent
        if received:
            words[at + _RECEIVED] += received
        if duration > FIRST:
            at += bisect_left(BOUNDS, duration)
        words[at + _BUCKETS] += 1.0  # cheaper than 1 on a float

    def record(self, record: AccessRecord) -> None:
        """Count a request that another protocol answered."""
        method = record.scope.get("method", "GET")  # a WebSocket's handshake is one
        status = min(record.status, 599)  # other protocols let more through
        self.count(method, status, record.duration, 0, record.sent)

    def refuse(self, status: int) -> None:
        """Count a request that the server refuses with *status*."""
        self.words[_REFUSALS.get(status, _REFUSALS[0])] += 1

    def watching(self, app: Any) -> Callable[[Any, Any, Any], Awaitable[None]]:
        """Wrap *app* to count the WebSockets that another protocol opens."""

        async def watch(scope: Any, receive: Any, send: Any) -> None:
            opened = 0

            async def counted(message: Any) -> None:
                nonlocal opened
                await send(message)
                if message["type"] == "websocket.accept":
                    opened = 1
                    self.websockets += 1

            try:
                await app(scope, receive, counted)
            finally:
                self.websockets -= opened

        def choose(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
            chosen = watch if scope["type"] == "websocket" else app
            return chosen(scope, receive, send)

        return choose


@dataclass(frozen=True, slots=True)
class Series:
    """The counts of one method and class of status."""

    method: str
    status: str  # such as ``2xx``
    buckets: Sequence[int]
    seconds: float  # in all
    received: int  # bytes of request bodies
    sent: int  # bytes of response bodies

    @property
    def requests(self) -> int:
        """How many there were."""
        return sum(self.buckets)


def series(counts: Sequence[float]) -> Iterator[Series]:
    """Yield each series that has a request."""
    starts = range(0, min(_REFUSED, len(counts)), _SERIES)
    for index, start in enumerate(starts):
        seconds, sent, received, *buckets = counts[start : start + _SERIES]
        if any(buckets):
            method, status = divmod(index, CLASSES)
            yield Series(
                METHODS[method],
                f"{status + 1}xx",
                [int(bucket) for bucket in buckets],
                seconds,
                int(received),
                int(sent),
            )


def refused(counts: Sequence[float]) -> dict[str, int]:
    """Return how many requests were refused, by reason."""
    return dict(zip(REASONS.values(), map(int, counts[_REFUSED:]), strict=True))
