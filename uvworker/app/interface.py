"""Which interface a callable has: ASGI 3, ASGI 2, WSGI, or that of a factory.

Its signature shows how it is called: ``app(scope, receive, send)``,
``app(scope)(receive, send)``, ``app(environ, start_response)`` or ``create_app()``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

Interface: TypeAlias = Literal["asgi3", "asgi2", "wsgi", "factory"]

# In this order: an app with `*args` counts as ASGI 3.
_ARITIES: tuple[tuple[Interface, int], ...] = (
    ("asgi3", 3),
    ("wsgi", 2),
    ("asgi2", 1),
    ("factory", 0),
)


class NotServable(Exception):  # noqa: N818  what the app is
    """The app cannot be served as it is configured."""


def interface_of(app: Callable[..., Any]) -> Interface:
    """Return the interface of *app*; ASGI 3 if its signature cannot be read."""
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        return "asgi3"
    if list(signature.parameters)[:2] == ["environ", "start_response"]:
        return "wsgi"
    for interface, arity in _ARITIES:
        if _takes(signature, arity):
            return interface
    return "asgi3"


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True
