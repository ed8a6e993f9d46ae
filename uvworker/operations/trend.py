"""The last minutes of a service: a ring of samples in shared memory.

A sample holds the service's totals at one moment, so that the difference of two says
what happened between them. The operations threads of all workers take turns: in each
period the first one that looks takes the sample, whichever worker lives. The rule: no
request pays for it, and nobody waits. Two threads that write the same sample at once
write almost the same totals; a reader leaves out a sample that is being written.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from itertools import pairwise

from ..access.tally import BOUNDS, series
from .facts import Point

PERIOD = 2.0  # seconds between samples; workers publish their counts once a second
SAMPLES = 151  # five minutes, and one to begin with
MICROSECONDS = 1_000_000  # to the second

# The words of a sample: its period's number plus one, when it was taken, answered
# requests with a server error, the sum of all durations, and the buckets.
_NUMBER, _TIME, _ERRORS, _DURATIONS, _BUCKETS = range(5)
_WORDS = _BUCKETS + len(BOUNDS) + 1


class Trend:
    """The ring. Construct it in the arbiter, before the first fork."""

    def __init__(self) -> None:
        self._ring = memoryview(mmap.mmap(-1, SAMPLES * _WORDS * 8)).cast("q")

    def lacks(self, now: float) -> bool:
        """Return whether the period of *now* (``time.monotonic()``) has no sample."""
        number = _number(now)
        return self._sample(number)[_NUMBER] != number

    def record(self, now: float, counts: Sequence[float]) -> None:
        """Take the sample of *now*; *counts*: the sums of all workers' tallies."""
        number = _number(now)
        words = [number, int(now * MICROSECONDS), *_summed(counts)]
        sample = self._sample(number)
        sample[_NUMBER] = 0
        for index, word in enumerate(words[1:], start=1):
            sample[index] = word
        sample[_NUMBER] = number

    def points(self, now: float) -> list[Point]:
        """Return what is known of the last minutes, the oldest first."""
        return [_between(a, b, now) for a, b in pairwise(self._samples(_number(now)))]

    def _samples(self, last: int) -> Iterator[list[int]]:
        for number in range(last - SAMPLES + 1, last + 1):
            words = self._sample(number).tolist()
            if words[_NUMBER] == number:
                yield words

    def _sample(self, number: int) -> memoryview:
        start = number % SAMPLES * _WORDS
        return self._ring[start : start + _WORDS]


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """Return the duration within which *share* of the requests were answered.

    As Prometheus estimates it: evenly spread within a bucket. None without requests;
    beyond the last bound, that bound.
    """
    wanted, below = share * sum(buckets), 0
    if not wanted:
        return None
    for lower, upper, count in zip((0.0, *BOUNDS), BOUNDS, buckets, strict=False):
        if count and below + count >= wanted:
            return lower + (upper - lower) * (wanted - below) / count
        below += count
    return float(BOUNDS[-1])


def _number(now: float) -> int:
    return int(now / PERIOD) + 1  # 0 is a sample that was never taken


def _summed(counts: Sequence[float]) -> list[int]:
    """Return errors, durations and buckets over all methods and statuses."""
    errors, durations, sums = 0, 0.0, [0] * (len(BOUNDS) + 1)
    for found in series(counts):
        errors += found.requests if found.status == "5xx" else 0
        durations += found.seconds
        sums = [a + b for a, b in zip(sums, found.buckets, strict=True)]
    return [errors, round(durations * MICROSECONDS), *sums]


def _between(first: list[int], second: list[int], now: float) -> Point:
    _, _, errors, durations, *buckets = (
        b - a for a, b in zip(first, second, strict=True)
    )
    seconds = max(second[_TIME] - first[_TIME], 1) / MICROSECONDS
    requests = sum(buckets)
    return Point(
        ago=now - second[_TIME] / MICROSECONDS,
        rate=requests / seconds,
        errors=errors / seconds,
        mean=durations / requests / MICROSECONDS if requests else None,
        p50=quantile(buckets, 0.5),
        p99=quantile(buckets, 0.99),
    )
