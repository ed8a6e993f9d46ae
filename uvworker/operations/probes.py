"""Probes on the app's own port, for load balancers; the app does not see them.

A balancer that checks a path of the app gets 200 until the listener is closed. With a
probe's path it gets 503 from the start of `drain_delay` on, while requests are still
served.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from ..access.record import AccessRecord, Recorder
from ..app.asgi import ASGIApp, Receive, Scope, Send
from .endpoints import probe_answer, respond
from .health import Verdict

Probes: TypeAlias = Mapping[str, Callable[[], Verdict]]  # by path


class Probed:
    """An app with probes in front; a request for another path costs one look-up."""

    def __init__(self, app: ASGIApp, probes: Probes) -> None:
        self._app = app
        self._probes = probes

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer a probe, or return the app's own awaitable."""
        probe = self._probes.get(scope.get("path", ""))
        if probe is None or scope["type"] != "http":
            return self._app(scope, receive, send)
        return respond(probe_answer(probe(), scope), send)


def without(probes: Probes, record: Recorder) -> Recorder:
    """Return *record* without *probes*, which would fill an access log."""

    def recorded(answered: AccessRecord) -> None:
        if answered.scope.get("path") not in probes:
            record(answered)

    return recorded
