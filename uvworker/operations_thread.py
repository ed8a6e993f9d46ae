"""The operations thread of one worker, put together from what it answers with.

Made after the fork, before the app is imported. The rule: here stands who asks whom;
what is answered stands in `operations`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from .diagnosis import stacks
from .observation import Observation
from .operations.endpoints import Endpoints
from .operations.relay import Relay, Unanswered
from .operations.server_thread import ServerThread
from .protocols import operations_protocol
from .shared import Shared
from .shared_memory.scoreboard import Slot

IN_C = b"C code holds its interpreter. Its threads, the innermost call first:\n\n"


def operations_thread(
    shared: Shared,
    slot: Slot,
    observation: Observation,
    *,
    uid: int,
    public: bool,
    loop: Callable[[], asyncio.AbstractEventLoop | None],
    sample: Callable[[], object],
) -> ServerThread:
    """Return the thread, not started.

    *uid*: of all workers. *public*: as `ops_public`. *loop*: returns the app's.
    *sample*: called on the thread, once a second.
    """
    assert shared.operations is not None
    assert shared.stack_file is not None
    shared.stack_file.answer(slot)
    relay = Relay(
        shared.token,
        slot.id,
        lambda: stacks.describe(loop(), without=threading.get_ident()),
        users={0, uid},
    )
    endpoints = Endpoints(
        observation,
        observation.recent,
        Stacks(shared, relay),
        public=public,
    )
    return ServerThread(
        shared.operations,
        operations_protocol(endpoints),
        relay,
        sample=sample,
        leave=endpoints.leave,
    )


class Stacks:
    """Stacks of any worker: from its own thread, else from its signal handler."""

    def __init__(self, shared: Shared, relay: Relay) -> None:
        self._shared = shared
        self._relay = relay

    async def __call__(self, worker_id: int) -> bytes:
        """Return them, or raise :class:`~.operations.relay.Unanswered`."""
        try:
            return await self._relay.ask(worker_id)
        except Unanswered:
            if text := await self._from_c(worker_id):
                return IN_C + text
            raise

    async def _from_c(self, worker_id: int) -> bytes:
        assert self._shared.stack_file is not None
        for view in self._shared.board.workers():
            if view.id == worker_id and view.alive:
                return await self._shared.stack_file.ask(view)
        return b""
