"""What one worker tells of itself: it counts, and its operations thread publishes.

Made after the fork, only where `ops_bind` is set. The rule: the thread publishes once a
second, so that a worker whose event loop is blocked shows what it does, and the loop of
one that is not pays nothing.
"""

from __future__ import annotations

import socket
import time

from .accept.acceptor import Acceptor
from .access.tally import Tally
from .diagnosis.stalls import StallWatch
from .operations.server_thread import ServerThread
from .shared import Shared
from .shared_memory.counters import Count, Counters, most_descriptors, open_descriptors
from .shared_memory.scoreboard import Slot


class WorkerReport:
    """One worker's part of the metrics, and the thread that answers for all workers.

    *slot*: gets what it has now; its counts go to the ledgers of *shared*.
    *thread*: calls `publish` once a second.
    """

    def __init__(self, shared: Shared, slot: Slot, thread: ServerThread) -> None:
        self.tally = Tally(shared.answered.row(slot.id))
        self._counters = Counters()
        self._slot = slot
        self._counted = shared.counted.open(slot.id)
        self._acceptor: Acceptor | None = None
        self._stalls: StallWatch | None = None
        self._thread = thread

    @property
    def listeners(self) -> list[socket.socket]:
        """Where operators and siblings ask."""
        return self._thread.listeners

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def serve(self, acceptor: Acceptor, stalls: StallWatch | None) -> None:
        """Count what happens from now on; the worker serves."""
        self._counters.serve(self._slot.boot_seconds)
        self._acceptor, self._stalls = acceptor, stalls

    def detach(self) -> None:
        """Count in private memory; in a process that the app forks."""
        self.tally.detach()

    def stop(self) -> None:
        """Stop answering, and publish the last counts."""
        self._thread.stop()
        self.publish()

    def publish(self) -> None:
        """Publish the counts for the siblings; requests are published already."""
        self._look()
        self._counted.publish(self._counters.counts)

    def _look(self) -> None:
        """Look at what nobody counts as it happens."""
        counts, slot = self._counters.counts, self._slot
        slot.websockets = self.tally.websockets
        slot.descriptors = open_descriptors()
        slot.most_descriptors = most_descriptors()
        counts[Count.CPU_TIME] = time.process_time_ns()
        if (acceptor := self._acceptor) is not None:
            counts[Count.ACCEPTED] = acceptor.accepted
            counts[Count.FULL] = acceptor.times_full
            counts[Count.STARVED] = acceptor.times_starved
        if (stalls := self._stalls) is not None:
            counts[Count.STALLS] = stalls.stalls
            counts[Count.STALL_TIME] = stalls.stall_time
