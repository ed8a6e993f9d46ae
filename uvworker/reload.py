"""What ``--reload`` serves while the app cannot be imported or started.

gunicorn watches the files of ``sys.modules``, from which Python removes a module that
fails; so the files that the failure names are handed to the reloader as well, and the
next save is noticed. Development only.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
App = Callable[..., Awaitable[None]]


def stand_in(failure: BaseException, reloader: Any, log: Any) -> App:
    """Return an app that shows *failure* until one of its files is saved.

    *reloader*: gunicorn's, which gets the files to watch; *log*: gunicorn's logger.
    """
    log.error("The app cannot start; waiting for a change.", exc_info=failure)
    for path in _files_of(failure):
        reloader.add_extra_file(path)
    return _failure_page(failure)


def _files_of(failure: BaseException) -> Iterator[str]:
    """Yield the source files that took part in *failure*, the broken one included."""
    for frame in traceback.extract_tb(failure.__traceback__):
        if Path(frame.filename).is_file():  # not "<string>", nor compiled elsewhere
            yield frame.filename
    if isinstance(failure, SyntaxError) and failure.filename:
        yield failure.filename


def _failure_page(failure: BaseException) -> App:
    """Return an ASGI app that answers every request with *failure*'s traceback."""
    page = "".join(traceback.format_exception(failure)).encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(page)),
    ]

    async def app(
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] == "lifespan":  # as ``asgi_lifespan = "on"`` asks for
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
