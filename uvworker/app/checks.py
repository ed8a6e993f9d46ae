"""The app's own health checks, run on its loop by each worker.

The rule: a probe never runs one. It reads the last result, so that no number of probes
adds a query, and a check that hangs delays no answer.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias

Call: TypeAlias = Callable[[], Awaitable[object]]
Spawn: TypeAlias = Callable[[Coroutine[Any, Any, Any]], "asyncio.Task[Any]"]

MARGIN = 0.2  # seconds after its timeout in which a check of the first round may end


@dataclass(frozen=True, slots=True)
class Check:
    """One check; *timeout* and *period* in seconds."""

    name: str
    call: Call
    timeout: float
    period: float


registered: dict[str, Check] = {}  # by name; of the app in this process


class Checks:
    """Runs the registered checks; made and used on the worker's loop.

    *spawn*: starts a task.
    *returned*: called where the worker's code goes on after a check, with its failure.
    *report*: called with a name, and why it fails or an empty string, when it begins to
    fail and when it ends to. `failing` has all names.
    """

    def __init__(
        self,
        spawn: Spawn,
        *,
        returned: Callable[[BaseException | None], object],
        report: Callable[[str, str], object],
    ) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()
        self._spawn = spawn
        self._returned = returned
        self._report = report
        self._running: set[str] = set()
        self._due: dict[str, float] = {}  # by name
        self.failing: set[str] = set()
        self._stopped = False

    async def first(self, now: float) -> None:
        """Run each check once, before the worker serves; wait for their timeouts."""
        self.run_due(now)
        if self.tasks:
            longest = max(check.timeout for check in registered.values())
            await asyncio.wait(self.tasks, timeout=longest + MARGIN)

    def run_due(self, now: float) -> None:
        """Start the checks whose period has passed; called once a second."""
        if self._stopped:
            return
        for check in list(registered.values()):
            due = now >= self._due.get(check.name, -math.inf)
            if due and check.name not in self._running:
                self._due[check.name] = now + check.period
                self._running.add(check.name)
                self._keep(self._spawn(self._run(check)))
        for name in self.failing - registered.keys():
            self._settle(name, "")

    def stop(self) -> None:
        """Cancel what runs, and start no more."""
        self._stopped = True
        for task in self.tasks:
            task.cancel()

    def _keep(self, task: asyncio.Task[Any]) -> asyncio.Task[Any]:
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def _run(self, check: Check) -> None:
        try:
            call = self._keep(self._spawn(self._ask(check)))
            await asyncio.wait({call}, timeout=check.timeout)
            if call.done():
                self._settle(check.name, call.result())
            else:
                self._settle(check.name, f"no answer in {check.timeout:g} s")
                call.cancel()
                await asyncio.wait({call})  # it may ignore that: only one at a time
        finally:
            self._running.discard(check.name)

    async def _ask(self, check: Check) -> str:
        """Return why *check* fails, or an empty string."""
        failure: BaseException | None = None
        try:
            if await check.call() is False:
                return "it returned False"
        except GeneratorExit:
            raise
        except BaseException as raised:  # noqa: BLE001  also sys.exit()
            failure = raised
        self._returned(failure)
        return "" if failure is None else repr(failure)

    def _settle(self, name: str, failure: str) -> None:
        if self._stopped or bool(failure) is (name in self.failing):
            return
        (self.failing.add if failure else self.failing.discard)(name)
        self._report(name, failure)
