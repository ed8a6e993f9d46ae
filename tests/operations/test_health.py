"""What each probe is told, of every kind of service."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from uvworker.operations.facts import ServiceFacts, WorkerFacts
from uvworker.operations.health import live, ready, started

SERVING = WorkerFacts(0, 1, "serving")
HUNG = replace(SERVING, silence=40.0)
BOOTING = WorkerFacts(1, 2, "booting", uptime=4.0, silence=4.0)
RETIRING = replace(SERVING, retiring=True)
DRAINING = WorkerFacts(0, 1, "draining")
FAILED = WorkerFacts(0, 1, "failed")


def service(*workers: WorkerFacts, **changes: Any) -> ServiceFacts:
    facts = ServiceFacts(
        versions={},
        arbiter=1,
        arbiter_alive=True,
        started_at=0.0,
        wanted=1,
        ever_served=1,
        timeout=30.0,
        boot_timeout=None,
        workers=workers,
    )
    return replace(facts, **changes)


@pytest.mark.parametrize(
    ("facts", "is_live", "is_ready"),
    [
        (service(SERVING), True, True),
        (service(), True, False),
        (service(BOOTING), True, False),
        (service(BOOTING, boot_timeout=60.0), True, False),
        (service(replace(BOOTING, uptime=70.0), boot_timeout=60.0), False, False),
        (service(replace(BOOTING, uptime=9000.0)), True, False),
        (service(HUNG), False, False),
        (service(HUNG, timeout=0.0), True, False),
        (service(replace(SERVING, silence=4.0)), True, False),
        (service(HUNG, replace(SERVING, id=1)), True, True),
        (service(RETIRING), True, False),
        (service(RETIRING, BOOTING), True, False),
        (service(RETIRING, replace(SERVING, id=1)), True, True),
        (service(DRAINING), True, False),
        (service(FAILED), True, False),
        (service(SERVING, arbiter_alive=False), False, True),
    ],
)
def test_live_and_ready(facts: ServiceFacts, is_live: bool, is_ready: bool) -> None:
    assert live(facts).well is is_live
    assert ready(facts).well is is_ready
    for verdict in live(facts), ready(facts):
        assert bool(verdict.reasons) is not verdict.well


def test_a_reason_names_the_worker_and_what_it_does() -> None:
    assert ready(service(BOOTING)).reasons == ("worker 1 is booting",)
    assert live(service(HUNG)).reasons == ("worker 0 had no heartbeat for 40 s",)


@pytest.mark.parametrize(("served", "well"), [(0, False), (3, False), (4, True)])
def test_started_means_that_as_many_as_configured_have_served(
    served: int, well: bool
) -> None:
    assert started(service(wanted=4, ever_served=served)).well is well


@pytest.mark.parametrize(
    ("worker", "reason"),
    [
        (
            replace(SERVING, healthy=False, problems=("the check 'db' fails: no",)),
            "worker 0 is unhealthy: the check 'db' fails: no",
        ),
        (
            replace(BOOTING, failed_boots=3, problems=("cannot start: no",)),
            "worker 1 is booting after 3 failed boot(s) in a row: cannot start: no",
        ),
        (
            replace(FAILED, failed_boots=1),
            "worker 0 is failed after 1 failed boot(s) in a row",
        ),
    ],
)
def test_a_worker_that_is_not_ready_says_why(worker: WorkerFacts, reason: str) -> None:
    assert ready(service(worker)).reasons == (reason,)
