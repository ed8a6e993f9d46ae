"""Three health checks for probes, computed from facts only.

Live: a restart would not help. Ready: the service accepts new connections. Started: all
workers have served once. Kubernetes and load balancers read the status code; people
read the reasons. The rule: a reload or a drain of some workers changes none of the
three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .facts import ServiceFacts, WorkerFacts

SILENT = 3.0  # seconds without a heartbeat until a worker counts as hung; one a second
# Seconds after `timeout` in which the arbiter replaces a hung worker. Only if it does
# not would a restart of the whole service help.
REPLACE_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a health check; *reasons* say why it failed.

    *problems*: what is wrong with workers, whether it failed or not.
    """

    well: bool
    reasons: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def live(facts: ServiceFacts) -> Verdict:
    """Check that the arbiter lives, and that not every worker hangs.

    It does not fail during a drain, which a restart would cut, or because of a service
    that the app depends on.
    """
    if not facts.arbiter_alive:
        return Verdict(well=False, reasons=("the arbiter is gone",))
    reasons = [reason for w in facts.workers if (reason := _stuck(w, facts))]
    if facts.workers and len(reasons) == len(facts.workers):
        return Verdict(well=False, reasons=tuple(reasons))
    return Verdict(well=True)


def _stuck(worker: WorkerFacts, facts: ServiceFacts) -> str:
    """Return why a restart would help this worker; empty if it would not."""
    if worker.state == "booting":
        limit = facts.boot_timeout
        if limit is not None and worker.uptime > limit + REPLACE_TIMEOUT:
            return f"worker {worker.id} has been booting for {worker.uptime:.0f} s"
    elif facts.timeout and worker.silence > facts.timeout + REPLACE_TIMEOUT:
        return f"worker {worker.id} had no heartbeat for {worker.silence:.0f} s"
    return ""


def ready(facts: ServiceFacts) -> Verdict:
    """Check that a worker serves that is not about to drain.

    It fails before the first worker serves, and from the start of a stop on, while
    requests in flight are still answered and, with ``drain_delay``, new ones accepted.
    """
    problems = tuple(
        f"worker {worker.id} {problem}"
        for worker in facts.workers
        for problem in worker.problems
    )
    if any(not _unready(worker) for worker in facts.workers):
        return Verdict(well=True, problems=problems)
    reasons = tuple(
        f"worker {worker.id} {_unready(worker)}" for worker in facts.workers
    )
    return Verdict(
        well=False, reasons=reasons or ("there is no worker",), problems=problems
    )


def _unready(worker: WorkerFacts) -> str:
    if worker.state != "serving":
        return f"is {worker.state}{_after_failures(worker)}"
    if worker.retiring:
        return "is stopping"
    if worker.silence > SILENT:
        return f"had no heartbeat for {worker.silence:.0f} s"
    if not worker.healthy:
        return f"is unhealthy: {'; '.join(worker.problems)}"
    return ""


def _after_failures(worker: WorkerFacts) -> str:
    """Return how often its boot has failed, and why the last time if that is known."""
    if not worker.failed_boots:
        return ""
    why = "".join(f": {problem}" for problem in worker.problems)
    return f" after {worker.failed_boots} failed boot(s) in a row{why}"


def started(facts: ServiceFacts) -> Verdict:
    """Check that as many workers as configured have served."""
    if facts.ever_served >= facts.wanted:
        return Verdict(well=True)
    reason = f"{facts.ever_served} of {facts.wanted} workers have served"
    return Verdict(well=False, reasons=(reason,))


# By the path of the probe. `healthz` is deprecated in Kubernetes since 1.16, but still
# the best known name.
PROBES: Mapping[str, Callable[[ServiceFacts], Verdict]] = MappingProxyType(
    {"/livez": live, "/readyz": ready, "/startupz": started, "/healthz": ready}
)
