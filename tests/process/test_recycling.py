"""When a worker is to be recycled; `tests/service/workers` shows that it then is."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from uvworker.machine.memory import resident_memory
from uvworker.process.recycling import Recycling


async def app(_scope: object, _receive: object, _send: object) -> None:
    pass


def ask(recycling: Recycling, *types: str) -> int:
    """Send scopes through the counted app; return how often the limit was called."""
    called: list[int] = []
    counted = recycling.counted(app, lambda: called.append(recycling.requests))

    async def run() -> None:
        for kind in types:
            await counted({"type": kind}, None, None)

    asyncio.run(run())
    return len(called)


def test_no_limit_is_never_reached() -> None:
    recycling = Recycling()
    assert not recycling.counts
    assert recycling.reached() is None


def test_requests_and_websockets_count_and_the_lifespan_does_not() -> None:
    recycling = Recycling(max_requests=2)
    assert ask(recycling, "lifespan", "http") == 0
    assert recycling.reached() is None
    assert ask(recycling, "websocket") == 1
    reason = recycling.reached()
    assert reason is not None
    assert not reason.hard
    assert reason.text == "2 requests, max_requests 2"


def test_twice_the_limit_does_not_wait_for_its_turn() -> None:
    recycling = Recycling(max_requests=2)
    assert ask(recycling, *["http"] * 4) == 2
    reason = recycling.reached()
    assert reason is not None
    assert reason.hard


@given(st.integers(1, 50), st.integers(0, 50))
def test_the_jitter_is_within_its_bounds(limit: int, jitter: int) -> None:
    recycling = Recycling(max_requests=limit, max_requests_jitter=jitter)
    while recycling.reached() is None:
        recycling.requests += 1
    assert limit <= recycling.requests <= limit + jitter


def test_memory_is_what_ps_shows() -> None:
    shown = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(Path("/proc/self").readlink())],
        check=True,
        capture_output=True,
        text=True,
    )
    assert abs(resident_memory() - int(shown.stdout) * 1024) < 5_000_000


def test_memory_beyond_its_limit_is_reached_with_figures() -> None:
    recycling = Recycling(max_rss=resident_memory() // 4)
    reason = recycling.reached()
    assert reason is not None
    assert reason.hard
    assert "MB resident, max_rss" in reason.text


def test_a_lifetime_ends() -> None:
    reason = Recycling(max_lifetime=0).reached()
    assert reason is not None
    assert "max_lifetime" in reason.text
