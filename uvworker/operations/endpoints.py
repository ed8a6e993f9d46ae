"""The endpoints of the operator's listener: an ASGI app with a table of paths.

The rule: an endpoint only reads. Signals, ``systemctl`` and ``gunicornc`` change the
service.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict
from typing import Any, TypeAlias

from ..app.asgi import Receive, Scope, Send
from . import events, exposition, health, metrics, page
from .facts import Recent, ServiceFacts, WorkerFacts
from .relay import Unanswered

JSON = b"application/json"
PLAIN = b"text/plain; charset=utf-8"

Answer: TypeAlias = tuple[int, bytes, bytes]  # status, content type, body


class Endpoints:
    """The app.

    *observe*: returns the current facts; *recall*: those of the last minutes.
    *stacks*: returns those of a worker, by its id; raises `Unanswered`.
    *public*: allow any Host. Otherwise a request must name an address or localhost:
    a web page could let its own name resolve to 127.0.0.1 and read the answers (DNS
    rebinding).
    """

    def __init__(
        self,
        observe: Callable[[], ServiceFacts],
        recall: Callable[[], Recent],
        stacks: Callable[[int], Awaitable[bytes]],
        *,
        public: bool,
    ) -> None:
        self._observe = observe
        self._recall = recall
        self._stacks = stacks
        self._public = public
        self._streams = events.EventStreams(lambda: page.sections(observe(), recall()))

    def leave(self) -> None:
        """End the answers that would go on."""
        self._streams.leave()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served here")
        answer = await self._answer(scope, dict(scope["headers"]))
        if answer[1] is events.TYPE:
            await send(_head(*answer[:2]))
            await self._streams.send(receive, send)
        else:
            await respond(answer, send)

    async def _answer(self, scope: Scope, headers: dict[bytes, bytes]) -> Answer:
        if not (self._public or _is_local(headers.get(b"host", b""))):
            return 421, PLAIN, b"Use an address or localhost as Host.\n"
        if scope["method"] not in ("GET", "HEAD"):
            return 405, PLAIN, b"GET and HEAD only.\n"
        path = scope["path"]
        if path in health.PROBES:
            return probe_answer(health.PROBES[path](self._observe()), scope)
        known = {
            "/": self._page,
            "/events": self._events,
            "/metrics": self._metrics_page,
            "/status.json": self._status_page,
        }
        if path in known:
            return known[path](headers)
        if path == STACKS or path.startswith(f"{STACKS}/"):
            return await self._stacks_page(path.removeprefix(STACKS).strip("/"))
        return 404, PLAIN, b"Not found. The path / lists all paths.\n"

    def _page(self, _headers: dict[bytes, bytes]) -> Answer:
        return 200, page.HTML, page.render(self._observe(), self._recall(), PATHS)

    def _events(self, _headers: dict[bytes, bytes]) -> Answer:
        if self._streams.full:
            return 503, PLAIN, b"There are too many streams of events.\n"
        return 200, events.TYPE, b""

    def _status_page(self, _headers: dict[bytes, bytes]) -> Answer:
        return 200, JSON, _json(status(self._observe(), self._recall()))

    def _metrics_page(self, headers: dict[bytes, bytes]) -> Answer:
        openmetrics = b"application/openmetrics-text" in headers.get(b"accept", b"")
        kind = exposition.OPENMETRICS if openmetrics else exposition.TEXT
        text = exposition.render(
            metrics.FAMILIES, self._observe(), openmetrics=openmetrics
        )
        return 200, kind, text.encode()

    async def _stacks_page(self, worker_id: str) -> Answer:
        """Answer with the stacks of one worker, or without an id of all."""
        workers = self._observe().workers
        wanted = [w for w in workers if worker_id in ("", str(w.id))]
        if not wanted:
            ids = ", ".join(str(worker.id) for worker in workers)
            return 404, PLAIN, f"There is no worker {worker_id}; ids: {ids}\n".encode()
        answers = await asyncio.gather(*map(self._stacks_of, wanted))
        answered = any(well for well, _ in answers)
        return (
            200 if answered else 503,
            PLAIN,
            b"\n".join(text for _, text in answers),
        )

    async def _stacks_of(self, worker: WorkerFacts) -> tuple[bool, bytes]:
        head = f"Worker {worker.id} (pid {worker.pid}, {worker.state}"
        try:
            stacks = await self._stacks(worker.id)
        except Unanswered as error:
            return False, f"{head}): {error}.\n".encode()
        silence = f"last heartbeat {worker.silence:.1f} s ago"
        return True, f"{head}, {silence}):\n\n".encode() + stacks


STACKS = "/stacks"
PATHS: Iterable[str] = (*health.PROBES, "/metrics", "/status.json", STACKS)


def probe_answer(verdict: health.Verdict, scope: Scope) -> Answer:
    """Return *verdict* as text, or as JSON if the request asks for it."""
    code = 200 if verdict.well else 503
    accept = dict(scope["headers"]).get(b"accept", b"")
    if JSON in accept or scope["query_string"] == b"verbose":
        told = {"reasons": verdict.reasons, "problems": verdict.problems}
        body = {"status": "ok" if verdict.well else "unavailable"}
        return code, JSON, _json({**body, **told})
    return code, PLAIN, "\n".join((*(verdict.reasons or ("ok",)), "")).encode()


async def respond(answer: Answer, send: Send) -> None:
    """Send an answer that must not be cached."""
    status, content_type, body = answer
    await send(_head(status, content_type, (b"content-length", b"%d" % len(body))))
    await send({"type": "http.response.body", "body": body})


def _head(
    status: int, content_type: bytes, *more: tuple[bytes, bytes]
) -> dict[str, Any]:
    headers = [
        (b"content-type", content_type),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"content-security-policy", page.POLICY),
        *more,
    ]
    return {"type": "http.response.start", "status": status, "headers": headers}


def status(facts: ServiceFacts, recent: Recent) -> dict[str, Any]:
    """Return the facts for `/status.json`; its names are stable."""
    verdicts = {
        name: health.PROBES[path](facts).well
        for name, path in (
            ("live", "/livez"),
            ("ready", "/readyz"),
            ("started", "/startupz"),
        )
    }
    fields = asdict(facts)
    del fields["answered"]
    warnings = [asdict(line) for line in recent.warnings]
    last = asdict(recent.points[-1]) if recent.points else None
    return {**verdicts, **fields, "recent": last, "warnings": warnings}


def _json(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _is_local(host: bytes) -> bool:
    """Return whether a Host field names an address or localhost, or is empty."""
    name = host.decode("latin-1")
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    else:
        name = name.partition(":")[0]
    if name in ("", "localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
