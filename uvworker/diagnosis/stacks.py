"""What the threads and tasks of this process do at this moment, as text.

The rule: a stack has places in the code with their source lines, and no values. Runs in
any thread, and in a signal handler, also while the loop is blocked.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, TypeAlias

Stack: TypeAlias = list[tuple[FrameType, int]]  # with lines, the outermost first

DEEPEST = 1000  # frames; two tasks that await each other would have no end

# The attributes with the frame of what may await something, and with what it awaits.
AWAITING = (
    ("cr_frame", "cr_await"),
    ("gi_frame", "gi_yieldfrom"),
    ("ag_frame", "ag_await"),
)


def describe(
    loop: asyncio.AbstractEventLoop | None, *, without: int | None = None
) -> str:
    """Return the stacks of all threads and of *loop*'s tasks.

    Equal ones are described once: a service may have thousands of waiting tasks.

    *without*: the thread to leave out, by `threading.get_ident`.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    stacks = [
        (f"Thread {names.get(ident, ident)}", of_frame(frame))
        # The main thread first; the name is documented.
        for ident, frame in reversed(sys._current_frames().items())  # noqa: SLF001
        if ident != without
    ]
    running = None if loop is None else asyncio.current_task(loop)
    if loop is not None:
        waiting = asyncio.all_tasks(loop) - {running}
        stacks += [(f"Task {task.get_name()}", of_task(task)) for task in waiting]
    texts = list(_described(stacks))
    if running is not None:
        texts.append(f"Task {running.get_name()} runs, on the stack of its thread.\n")
    return "\n".join(texts)


def render(stack: Stack) -> str:
    """Return the places of *stack* and their source lines."""
    return "".join(traceback.StackSummary.extract(iter(stack)).format())


def of_frame(frame: FrameType | None) -> Stack:
    """Return the stack of a thread, of which *frame* is the innermost."""
    return [(f, line) for f, line in traceback.walk_stack(frame) if line][::-1]


def of_task(task: asyncio.Task[Any]) -> Stack:
    """Return the stack of *task*, down to what it awaits, in other tasks too.

    ``Task.get_stack`` has the outermost coroutine only, which is the server's.
    """
    stack: Stack = []
    waiting: Any = task.get_coro()
    while waiting is not None and len(stack) < DEEPEST:
        frame, waiting = _step(waiting)
        if frame is not None and frame.f_lineno:
            stack.append((frame, frame.f_lineno))
    return stack


def _step(waiting: Any) -> tuple[FrameType | None, Any]:
    """Return the frame of what waits, if it has one, and what that awaits."""
    for frame, awaited in AWAITING:
        if hasattr(waiting, frame):
            return getattr(waiting, frame), getattr(waiting, awaited)
    # What C code puts between two of them: the iterator of a future, a step of an
    # asynchronous generator, the iterator that ``__await__`` returns.
    for referent in gc.get_referents(waiting):
        if isinstance(referent, asyncio.Task):
            return None, referent.get_coro()
        if inspect.iscoroutine(referent) or inspect.isasyncgen(referent):
            return None, referent
    return None, None


def _described(stacks: Iterable[tuple[str, Stack]]) -> Iterator[str]:
    groups: dict[Any, list[tuple[str, Stack]]] = {}
    for name, stack in stacks:
        key = tuple((frame.f_code, line) for frame, line in stack)
        groups.setdefault(key, []).append((name, stack))
    for (name, stack), *others in groups.values():
        more = f", and {len(others)} more" if others else ""
        yield f"{name}{more}:\n{render(stack)}"
