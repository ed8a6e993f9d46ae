"""The requests in flight, as a sibling or the arbiter reads them."""

from __future__ import annotations

import asyncio
import time

import pytest

from uvworker.shared_memory.in_flight import ROWS, RequestTable

SCOPE = {"type": "http", "method": "GET", "raw_path": b"/a/path"}


async def waits(*_args):
    await asyncio.sleep(0)


async def begun(table: RequestTable, scope: dict, count: int = 1) -> None:
    """Run *count* requests through the register of worker 1, which read the table."""
    release = asyncio.Event()

    async def app(*_args):
        await release.wait()

    app_ = table.register(1).listing(app)
    tasks = [asyncio.ensure_future(app_(scope, None, None)) for _ in range(count)]
    await asyncio.sleep(0)
    try:
        return table.read(1, time.monotonic() + 5)
    finally:
        release.set()
        await asyncio.gather(*tasks)
        assert table.read(1) == []


def test_a_request_is_read_with_its_age_as_long_as_the_app_runs():
    table = RequestTable(workers=2)
    [request] = asyncio.run(begun(table, SCOPE))
    assert (request.method, request.path) == ("GET", "/a/path")
    assert request.age >= 5
    assert table.read(0) == []


def test_a_long_name_is_cut():
    scope = {**SCOPE, "method": "M" * 100, "raw_path": b"/" + b"p" * 9000}
    [request] = asyncio.run(begun(RequestTable(workers=2), scope))
    assert request.method == "M" * 15
    assert request.path == "/" + "p" * 230


def test_there_is_room_for_so_many_and_no_more():
    assert len(asyncio.run(begun(RequestTable(workers=2), SCOPE, ROWS + 9))) == ROWS


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_only_http_is_listed(kind: str):
    assert asyncio.run(begun(RequestTable(workers=2), {"type": kind})) == []


def test_a_successor_has_none_of_its_predecessors_requests():
    table = RequestTable(workers=2)

    request = table.register(1).listing(waits)(SCOPE, None, None)
    request.send(None)
    assert table.read(1)
    table.register(1)
    assert table.read(1) == []
    request.close()


def test_a_process_that_the_app_forks_does_not_write_to_it():
    table = RequestTable(workers=2)
    register = table.register(0)

    request = register.listing(waits)(SCOPE, None, None)
    request.send(None)
    register.detach()  # in the child, where the same request then ends
    request.close()
    assert len(table.read(0)) == 1
