"""Whether an app compresses what it sends, which needs the bytes and not a file's path.

Starlette's `GZipMiddleware` passes `http.response.pathsend` on, and the file goes out
as it is; others drop it, and the app has sent no response.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import Any

# As in GZipMiddleware, BrotliMiddleware, CompressMiddleware and ZstdMiddleware.
_COMPRESSOR = re.compile("gzip|brotli|compress|zstd", re.IGNORECASE)

# Where what wraps an app keeps it: middlewares, python-socketio, and ServeStatic.
_INNER = ("app", "other_asgi_app", "application")

MOST = 1000  # apps that are looked at; there may be a thousand mounted, or no end


def compressor(app: Any) -> str | None:
    """Return the name of a middleware of *app*'s that compresses; None: none is found.

    It looks where Starlette and FastAPI keep their middlewares, and into what wraps an
    app or is mounted in it.
    """
    names = (kind.__name__ for kind in _middlewares(app))
    return next(filter(_COMPRESSOR.search, names), None)


def _middlewares(app: Any) -> Iterator[type]:
    waiting, seen = deque([app]), set[int]()
    while waiting and len(seen) < MOST:
        app = waiting.popleft()
        if id(app) in seen:
            continue
        seen.add(id(app))
        yield type(app)
        for middleware in _listed(app, "user_middleware"):
            yield getattr(middleware, "cls", type(middleware))
        inner = [_get(app, name) for name in _INNER]
        inner += [_get(route, "app") for route in _listed(app, "routes")]
        waiting += [each for each in inner if each is not None]


def _listed(app: Any, name: str) -> list[Any]:
    found = _get(app, name)
    return found if isinstance(found, list) else []


def _get(app: Any, name: str) -> Any:
    try:
        return getattr(app, name, None)
    except Exception:  # noqa: BLE001 - a property of an app that has not started
        return None
