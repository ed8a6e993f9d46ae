"""Which request a task or a thread works for, found from their stacks.

asyncio does not say which task started another one, and a context variable would cost
every request what a report needs once in a while. The rule: nothing is noted before it
is asked for. The task that a server starts for a request runs a method of the object
that has the ASGI scope, in our protocols and in uvicorn's. Other tasks and threads have
the scope in a variable, by the name that ASGI gives it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, TypeAlias

from . import stacks

Scope: TypeAlias = dict[str, Any]

OTHERS = 1000  # tasks that are looked at for one request


def answering(task: asyncio.Task[Any]) -> Any | None:
    """Return what answers a request in *task*, with its ``scope``; None if nothing."""
    frame = getattr(task.get_coro(), "cr_frame", None)
    answer = frame and frame.f_locals.get("self")
    try:
        scope = getattr(answer, "scope", None)
    except Exception:  # noqa: BLE001  an object of the app may do anything
        return None
    return answer if _is_scope(scope) else None


def scope_on(frame: FrameType | None) -> Scope | None:
    """Return the scope of the request that a thread runs; *frame*: its innermost."""
    for each, _ in stacks.of_frame(frame):
        scope = each.f_locals.get("scope")
        if _is_scope(scope):
            return scope
    return None


def _is_scope(value: Any) -> bool:
    """Whether it is ASGI's, of a request."""
    return isinstance(value, dict) and "path" in value and "type" in value


def name(scope: Scope) -> str:
    """Return how log lines name a request: without its query."""
    return f"{scope.get('method', 'the WebSocket')} {scope['path']!r}"


def at_work(task: asyncio.Task[Any], scope: Scope) -> Iterator[stacks.Stack]:
    """Yield the stacks of *task*, which answers a request, and of what works for it.

    Those are other tasks, as of a middleware of Starlette, and threads. Runs on the
    loop.
    """
    yield from _with_thread(stacks.of_task(task))
    others = list(asyncio.all_tasks() - {task})[:OTHERS]
    for stack in map(stacks.of_task, others):
        if _works_for(stack, scope):
            yield from _with_thread(stack)
    for ident, frame in sys._current_frames().items():  # noqa: SLF001  documented
        if ident != threading.get_ident():
            stack = stacks.of_frame(frame)
            if _works_for(stack, scope):
                yield stack


def _works_for(stack: stacks.Stack, scope: Scope) -> bool:
    for frame, _ in stack:
        variables = frame.f_locals
        if variables.get("scope") is scope:
            return True
        environ = variables.get("environ")  # of WSGI, as a2wsgi fills it
        if isinstance(environ, dict) and environ.get("asgi.scope") is scope:
            return True
    return False


def _with_thread(stack: stacks.Stack) -> Iterator[stacks.Stack]:
    """Yield *stack*, and that of the thread that it waits for, if it is anyio's."""
    yield stack
    frames = sys._current_frames()  # noqa: SLF001  documented
    for value in list(stack[-1][0].f_locals.values()) if stack else ():
        if isinstance(value, threading.Thread) and value.ident in frames:
            yield stacks.of_frame(frames[value.ident])
