"""What all workers of one arbiter share, made in the arbiter and inherited by the fork.

gunicorn makes a worker from its class alone, so the object is an attribute of the
class, the only one that is written at run time. A new arbiter (USR2) is a new program,
and makes its own.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from typing import Any

from .access import tally
from .diagnosis.c_stacks import StackFile
from .machine import notify_socket
from .operations import listener
from .operations.last_warnings import LastWarnings
from .operations.trend import Trend
from .process import exits, signals
from .process.systemd import Notifier
from .shared_memory import counters
from .shared_memory.generations import Generations
from .shared_memory.in_flight import RequestTable
from .shared_memory.ledger import Ledger
from .shared_memory.problems import ProblemTable
from .shared_memory.scoreboard import SLOTS, Scoreboard


class Shared:
    """What the workers of one arbiter share; made there, before the first fork.

    Args:
        arbiter: its pid.
        token: names what belongs to this arbiter's workers.
        started_at: seconds since the epoch.
        warned_of: the configuration whose report is in the log.
        frozen: the preloaded app (None without one) when memory was frozen.
        operations: the listener of ``ops_bind``, or None.
        stack_file: for stacks that C code writes; None without `operations`.
        requests: those in flight, or None as long as no worker lists them.
        notifier: speaks to systemd; None if it does not listen.
        trend: the last minutes.
        warnings: the last ones of the log.

    """

    def __init__(self) -> None:
        self.arbiter = os.getpid()
        self.token = secrets.token_hex(8)
        self.started_at = time.time()
        self.board = Scoreboard()
        self.answered = Ledger(SLOTS, tally.SIZE)
        self.counted = Ledger(SLOTS, counters.SIZE)
        self.problems = ProblemTable(SLOTS)
        self.halt_token = exits.HaltToken()
        self.warned_of: Any = None
        self.frozen: Any = ()
        self.operations: socket.socket | None = None
        self.stack_file: StackFile | None = None
        self.requests: RequestTable | None = None
        self.trend = Trend()
        self.warnings = LastWarnings(SLOTS)
        self._operations_address: str | None = None
        self.generations = Generations()
        self.notifier: Notifier | None = None
        self._cfg: Any = None  # of the newest generation
        signals.watch_forks()

    def bind_operations(self, address: str | None) -> None:
        """Listen on *address* from now on; does nothing if it is bound already.

        Raises :class:`~.operations.listener.AddressError`, and keeps what was bound.
        """
        if address == self._operations_address:
            return
        successor = "GUNICORN_PID" in os.environ
        new = listener.bind(address, succeeds=successor) if address else None
        if self.operations is not None:
            self.operations.close()
        self.operations, self._operations_address = new, address
        if new is not None and self.stack_file is None:
            self.stack_file = StackFile()

    def list_requests(self) -> None:
        """Make room for the requests in flight of the workers forked from now on."""
        if self.requests is None:
            self.requests = RequestTable(SLOTS)

    def notify_systemd(self) -> None:
        """Tell systemd how the service is, from now on, if it listens.

        Called when the arbiter has started; raises ``OSError`` if its socket is dead.
        """
        notify = notify_socket.give_back()
        if notify is None:
            return
        predecessor = os.environ.get(notify_socket.SUCCEEDS)
        notifier = Notifier(
            notify,
            self.board,
            self.generations,
            watchdog=notify_socket.watchdog_period(),
            predecessor=int(predecessor) if predecessor else None,
        )
        notifier.start()
        self.notifier = notifier

    def begin(self, cfg: Any, age: int, boot_timeout: float | None) -> None:
        """Note a worker before its fork: the first with *cfg* begins a generation."""
        if self._cfg is not cfg:
            self._cfg = cfg
            self.generations.begin(
                age, cfg.workers, self.board.workers(), self.board.stayed
            )
            if self.notifier is not None:
                self.notifier.boot_timeout = boot_timeout
                self.notifier.look()
