"""How a WebSocket is opened: HTTP is given this room's class, and knows no other."""

from __future__ import annotations

from collections.abc import Iterable

from .channel import EXTENSIONS, Handshake, Header
from .connection import WebSocket
from .deflate import agree
from .service import Service


class WebSockets(Service):
    """Opens WebSockets; one for each worker."""

    def open(self, headers: Iterable[Header], handshake: Handshake) -> WebSocket:
        """Return a WebSocket that the app has not yet accepted.

        Args:
            headers: of the request that asked for it, names in lower case.
            handshake: that request.

        """
        offers = [value for name, value in headers if name == EXTENSIONS]
        agreement = agree(offers) if offers and self.deflate else None
        return WebSocket(self, agreement, handshake)
