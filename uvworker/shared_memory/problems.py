"""What is wrong with each worker, in words, in shared memory.

One anonymous ``mmap``, a row of text for each worker id. The rules: a row has one
writer, the worker with its id; a reader never sees half a text. The error of a failed
boot stays for the next worker with the id, as the scoreboard's count of failures does.
"""

from __future__ import annotations

import mmap

SIZE = 1024  # bytes of a row; those of ids that nobody ever had take no memory
LONGEST = 200  # characters of one problem
COUNTER = 8  # bytes in front of the text: a number that is odd during a write
TRIES = 3


class ProblemTable:
    """The rows of all workers. Construct it in the arbiter, before the first fork.

    *workers*: how many there can be at a time.
    """

    def __init__(self, workers: int) -> None:
        self._memory = memoryview(mmap.mmap(-1, workers * SIZE))

    def open(self, worker_id: int) -> Problems:
        """Return the writing end of a row; call it in the worker."""
        return Problems(self._row(worker_id))

    def read(self, worker_id: int) -> list[str]:
        """Return the problems of a worker; none if it is killed while it writes."""
        row = self._row(worker_id)
        for _ in range(TRIES):
            before = row[:COUNTER].cast("q")[0]
            text = row[COUNTER:].tobytes()
            if not before % 2 and before == row[:COUNTER].cast("q")[0]:
                return text.rstrip(b"\0").decode(errors="replace").splitlines()
        return []

    def _row(self, worker_id: int) -> memoryview:
        return self._memory[worker_id * SIZE :][:SIZE]


class Problems:
    """The writing end of one worker's row; used on its main thread."""

    def __init__(self, row: memoryview) -> None:
        self._row = row
        self._found: dict[str, str] = {}

    def detach(self) -> None:
        """Write to private memory from now on; in a process that the app forks."""
        self._row = memoryview(bytearray(self._row))

    def set(self, kind: str, problem: str = "") -> None:
        """Replace the problem of this kind; an empty one removes it."""
        if problem != self._found.get(kind, ""):
            self._found[kind] = problem
            self.publish()

    def publish(self) -> None:
        """Write what is found; whatever the row had is replaced."""
        lines = [" ".join(p.split())[:LONGEST] for p in self._found.values() if p]
        text = "\n".join(lines).encode(errors="replace")[: SIZE - COUNTER]
        counter = self._row[:COUNTER].cast("q")
        counter[0] |= 1
        self._row[COUNTER:] = text.ljust(SIZE - COUNTER, b"\0")
        counter[0] += 1
