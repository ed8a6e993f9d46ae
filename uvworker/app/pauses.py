"""Turns of the loop for apps that send and send, and never wait for anything.

Over TLS a transport learns that its socket is lost only when the loop turns. Until then
it takes whatever is written, so such an app would hold up its worker for ever.
"""

from __future__ import annotations

import asyncio
import itertools

# Pieces between two turns. asyncio logs each from the fifth on that a lost socket gets.
PIECES = 4

_pieces = itertools.count(1)


async def pause() -> None:
    """Let the loop turn, now and then; call it behind each piece that TLS takes."""
    if not next(_pieces) % PIECES:
        await asyncio.sleep(0)
