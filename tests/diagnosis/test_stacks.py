"""The stack of a task goes down to what it awaits, through whatever is between."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from uvworker.diagnosis import stacks


async def wait_here() -> None:
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def context() -> AsyncIterator[None]:
    await wait_here()
    yield


async def generator() -> AsyncIterator[None]:
    await wait_here()
    yield


async def entering() -> None:
    async with context():
        pass


async def iterating() -> None:
    async for _ in generator():
        pass


async def joining() -> None:
    await asyncio.ensure_future(wait_here())


class Awaited:
    def __await__(self):
        return wait_here().__await__()


async def awaiting() -> None:
    await Awaited()


async def described(*works: Awaitable[None]) -> str:
    """Return what is said of tasks once all of them wait."""
    tasks = [asyncio.ensure_future(work) for work in works]
    for _ in range(5):
        await asyncio.sleep(0)
    try:
        return stacks.describe(asyncio.get_running_loop())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("work", [wait_here, entering, iterating, joining, awaiting])
def test_a_task_is_followed_to_where_it_waits(
    work: Callable[[], Awaitable[None]],
) -> None:
    text = asyncio.run(described(work()))
    stack = next(s for s in text.split("\n\n") if f"in {work.__name__}\n" in s)
    assert "in wait_here\n" in stack
    assert "await asyncio.Event().wait()\n" in stack


def test_tasks_that_wait_in_the_same_place_are_described_once() -> None:
    text = asyncio.run(described(*(wait_here() for _ in range(5000))))
    assert text.count("in wait_here\n") == 1
    assert ", and 4999 more:\n" in text


def test_two_tasks_that_await_each_other_have_an_end() -> None:
    loop = asyncio.new_event_loop()
    tasks: list[asyncio.Task[None]] = []

    async def wait_for_the_other(other: int) -> None:
        await tasks[other]

    tasks += [loop.create_task(wait_for_the_other(n)) for n in (1, 0)]
    loop.run_until_complete(asyncio.sleep(0))
    assert "in wait_for_the_other\n" in stacks.describe(loop)
    for task in tasks:  # which nothing can end
        task._log_destroy_pending = False  # noqa: SLF001
    loop.close()


def test_a_stack_has_no_value_of_a_variable() -> None:
    async def login(password: str) -> None:
        secret = password * 2
        await asyncio.Event().wait()
        raise ValueError(secret)

    text = asyncio.run(described(login("hunter" + "2")))
    assert "in login\n" in text
    assert "hunter2" not in text


def test_a_thread_can_be_left_out() -> None:
    assert "MainThread" in stacks.describe(None)
    assert "MainThread" not in stacks.describe(None, without=threading.get_ident())
