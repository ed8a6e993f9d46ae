"""What ``--reload`` serves while the app cannot be imported.

gunicorn watches the files of ``sys.modules``, from which Python removes a module that
fails; so the files that the failure names are handed to the reloader as well, and the
next save is noticed. Development only.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]


def files_of(failure: BaseException) -> Iterator[str]:
    """Yield the source files that took part in *failure*, the broken one included."""
    for frame in traceback.extract_tb(failure.__traceback__):
        if not frame.filename.startswith("<"):
            yield frame.filename
    if isinstance(failure, SyntaxError) and failure.filename:
        yield failure.filename


def failure_page(
    failure: BaseException,
) -> Callable[..., Awaitable[None]]:
    """Return an ASGI app that answers every request with *failure*'s traceback."""
    page = "".join(traceback.format_exception(failure)).encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(page)),
    ]

    async def app(
        scope: Message,
        _receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] == "http":
            await send(
                {"type": "http.response.start", "status": 500, "headers": headers}
            )
            await send({"type": "http.response.body", "body": page})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1011})

    return app
