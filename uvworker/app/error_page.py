"""The page that ``--reload`` serves while the app cannot be imported or started.

gunicorn watches the files of ``sys.modules``, from which Python removes a module whose
import fails. So the reloader also gets the files of the traceback, and notices the next
save. For development only.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .asgi import ASGIApp, Receive, Scope, Send


def stand_in(failure: BaseException, reloader: Any, log: Any) -> ASGIApp:
    """Return an app that shows *failure* until one of its files is saved.

    *reloader*: gunicorn's, which gets the files to watch; *log*: gunicorn's logger.
    """
    log.error("The app cannot start; waiting for a file to change.", exc_info=failure)
    for path in _files_of(failure):
        reloader.add_extra_file(path)
    return _failure_page(failure)


def _files_of(failure: BaseException) -> Iterator[str]:
    """Yield the source files in the traceback of *failure*, and the one it is about."""
    for frame in traceback.extract_tb(failure.__traceback__):
        if Path(frame.filename).is_file():  # not "<string>", nor compiled elsewhere
            yield frame.filename
    if isinstance(failure, SyntaxError) and failure.filename:
        yield failure.filename


def _failure_page(failure: BaseException) -> ASGIApp:
    """Return an ASGI app that answers every request with *failure*'s traceback."""
    page = "".join(traceback.format_exception(failure)).encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(page)),
    ]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":  # which ``asgi_lifespan = "on"`` requires
            await receive()
            await send({"type": "lifespan.startup.complete"})
        elif scope["type"] == "http":
            await send(
                {"type": "http.response.start", "status": 500, "headers": headers}
            )
            await send({"type": "http.response.body", "body": page})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1011})

    return app
