"""The worker's own tasks on the event loop, which it shares with the app.

The rule: nothing that an app does to the loop cancels or blocks them. Apps cancel and
await `asyncio.all_tasks()`, stop the loop in a signal handler, and raise ``SystemExit``
in a callback, which asyncio raises out of ``run_forever()``.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

LOOK = 1.0  # seconds until the next look at whether the app has imported AnyIO


def spawn(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start *work* on the running loop as a task that `asyncio.all_tasks` leaves out.

    Apps cancel what they find there, or await it in their shutdown, which would never
    end. `asyncio._unregister_task` is documented under "Extending asyncio". The caller
    keeps a reference: the loop has only a weak one.
    """
    return _unlisted(work, asyncio.get_running_loop())


def turn(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, T],
    interrupted: Callable[[BaseException | None], object],
) -> T:
    """Run *loop* until *work* is done, and return its result or raise its exception.

    *interrupted*: called when the loop has ended before, with the ``SystemExit`` or
    ``KeyboardInterrupt`` that it raised, or None if it was stopped. If *interrupted*
    returns, the loop runs again.
    """
    task = _unlisted(work, loop)
    task.add_done_callback(lambda _: loop.stop())
    while not task.done():
        failure: BaseException | None = None
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as raised:
            failure = raised
        if not task.done():
            interrupted(failure)
    return task.result()


async def keep_threads(task: asyncio.Task[Any]) -> None:
    """Let AnyIO's threads live as long as *task*, the main one, once it is imported.

    Frameworks run synchronous endpoints in them. AnyIO ends a thread with the root task
    that it began under. It looks for that task until it finds one, among those that are
    listed, by the callback of ``run_until_complete()``; if there is none, each request
    starts a thread of its own.
    """
    while "anyio" not in sys.modules:
        await asyncio.sleep(LOOK)
    with contextlib.suppress(ImportError, AttributeError):  # where a name is no more
        backend = importlib.import_module("anyio._backends._asyncio")
        mark = asyncio.base_events._run_until_complete_cb  # type: ignore[attr-defined]  # noqa: SLF001
        task.add_done_callback(mark)
        asyncio._register_task(task)  # noqa: SLF001
        try:
            backend.find_root_task()
        finally:
            asyncio._unregister_task(task)  # noqa: SLF001
            task.remove_done_callback(mark)


def _unlisted(
    work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop
) -> asyncio.Task[T]:
    task = asyncio.Task(work, loop=loop)
    asyncio._unregister_task(task)  # noqa: SLF001
    return task


@contextlib.contextmanager
def unlisted(tasks: Collection[asyncio.Task[Any]]) -> Iterator[None]:
    """Let `asyncio.all_tasks` leave *tasks* out meanwhile, which somebody else made."""
    for task in tasks:
        asyncio._unregister_task(task)  # noqa: SLF001
    try:
        yield
    finally:
        for task in tasks:
            asyncio._register_task(task)  # noqa: SLF001


async def cancel(tasks: Iterable[asyncio.Task[Any]], window: float) -> None:
    """Cancel *tasks*, and wait for their end for *window* seconds."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=window)
