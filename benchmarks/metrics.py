"""What the metrics cost a request: the protocol in one process, with them and without.

    python benchmarks/metrics.py [ROUNDS]

The transport drops what is written, so there are no system calls, and CPU time is what
the process itself used. The variants take turns every few milliseconds, in random
order, so that other load on the machine meets all of them alike. Of each the lowest
tenth is shown, and the median. `off again` is `off` once more: it shows what is noise.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
import uvloop
from uvicorn.server import ServerState

from uvworker.access.tally import SIZE, Tally
from uvworker.http.protocol import HTTPProtocol

TURN = 100  # requests between two looks at the clock
REQUEST = b"GET /a?b=c HTTP/1.1\r\nHost: example.org\r\nUser-Agent: x\r\n\r\n"
HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"13")]


async def app(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer with 13 bytes."""
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"Hello, world!"})


class Nowhere(asyncio.Transport):
    """A transport that drops what is written."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return addresses."""
        return {"sockname": ("::1", 80), "peername": ("::1", 9)}.get(name, default)

    def write(self, data: Any) -> None:
        """Drop *data*."""

    def is_closing(self) -> bool:
        """Return that it stays."""
        return False


def requests(tally: Tally | None) -> Callable[[], Awaitable[float]]:
    """Return what serves a turn of requests, and returns its seconds of CPU."""
    config = uvicorn.Config(app, log_config=None, proxy_headers=False, ws="none")
    state = ServerState()
    state.default_headers = [(b"date", b"x" * 29), (b"server", b"uvicorn")]
    protocol: Any = HTTPProtocol.configured(tally=tally)(
        config=config, server_state=state, app_state={}
    )
    protocol.connection_made(Nowhere())

    async def turn() -> float:
        began = time.process_time()
        for _ in range(TURN):
            protocol.data_received(REQUEST)
            await asyncio.sleep(0)
        return time.process_time() - began

    return turn


async def main(rounds: int) -> None:
    """Print the microseconds of each variant."""
    words = memoryview(bytearray(8 * SIZE)).cast("d")
    variants = {
        "off": requests(None),
        "off again": requests(None),
        "metrics": requests(Tally(words)),
    }
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name in random.sample(list(variants), len(variants)):
            taken[name].append(await variants[name]() / TURN * 1e6)
    for name, found in taken.items():
        lowest, median = sorted(found)[rounds // 10], statistics.median(found)
        print(f"{name:10} {lowest:6.2f} us, {median:6.2f} us")


uvloop.run(main(int(sys.argv[1]) if sys.argv[1:] else 2000))
