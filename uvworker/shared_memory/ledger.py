"""Counts in shared memory that outlive the workers that made them.

One anonymous ``mmap`` beside the scoreboard: a row of words for each worker id. A
worker adds its own counts to those of its predecessors with the same id, so that a
total never falls when a worker is killed or replaced. A new arbiter starts at zero.

A word is a float, as a value of Prometheus is: exact up to 2**53, and cheaper to add to
in shared memory than an integer.

The rule is the scoreboard's: a row has one writer, the living worker with its id.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence

WORD = 8  # bytes


class Ledger:
    """The rows of all workers. Construct it in the arbiter, before the first fork.

    *slots*: how many workers there can be at a time; rows that no worker ever had
    take no memory. *words*: how many counts each has.
    """

    def __init__(self, slots: int, words: int) -> None:
        self._words = words
        self._memory = memoryview(mmap.mmap(-1, slots * words * WORD)).cast("d")

    def open(self, worker_id: int) -> Account:
        """Return the row of a worker; call it in the worker, after the fork."""
        return Account(self.row(worker_id))

    def rows(self, workers: int) -> list[list[float]]:
        """Return a copy of the rows of the worker ids below *workers*."""
        return [[*self.row(worker_id)] for worker_id in range(workers)]

    def row(self, worker_id: int) -> memoryview[float]:
        """Return the row of a worker, for one that adds to it as it counts."""
        start = worker_id * self._words
        return self._memory[start : start + self._words]


class Account:
    """The writing end of one worker's row."""

    def __init__(self, row: memoryview[float]) -> None:
        self._row = row
        self._before = row.tolist()  # the counts of its predecessors
        self._published: list[float] = [0] * len(row)

    def publish(self, counts: Sequence[int]) -> None:
        """Write *counts*, this worker's own since its fork; only what has changed."""
        row, before, published = self._row, self._before, self._published
        for index, count in enumerate(counts):
            if count != published[index]:
                published[index] = count
                row[index] = before[index] + count
