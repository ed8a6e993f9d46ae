"""Writes the pictures of the operator's page: ``python docs/pictures.py``.

It takes five minutes, as the page shows as many, and needs chromium, chromium-driver,
and Pillow beside what the tests need. The service is real; its load is made up. In the
dark picture one worker blocks its loop.
"""  # noqa: INP001  a script

from __future__ import annotations

import base64
import io
import math
import random
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.tools.browser import Browser, browser  # noqa: E402
from tests.tools.service import CONF, Service, reserved_port  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
SECONDS = 300.0  # that the page shows
CLIENTS = 24
HIGHEST = 1500  # pixels; the page on a phone is longer

APP = """
import asyncio, random, time

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    path = scope["path"]
    if path == "/reports/yearly":
        time.sleep(15)
    elif path == "/checkout" and random.random() < 0.04:
        raise ConnectionError("the payment service does not answer")
    else:
        await asyncio.sleep(random.lognormvariate(-3.6, 0.8))
    status = 404 if path == "/old" else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})
"""


def load(url: str, until: float) -> None:
    """Send requests, more and less of them in turn."""
    with httpx.Client(base_url=url, timeout=60) as client:
        while (left := until - time.monotonic()) > 0:
            path = random.choice(["/", "/items/7", "/search", "/checkout", "/old"])  # noqa: S311
            with suppress(httpx.HTTPError):
                client.get(path)
            time.sleep(random.expovariate(4 + 3 * math.sin(left / 20)))


def shoot(tab: Browser, url: str, name: str, **how: object) -> None:
    """Write a picture of the whole page, in a palette that makes it small."""
    tab.show(**how)
    tab.open(url)
    tab.wait("#freshness", "Live")
    taken = tab.command("Page.captureScreenshot", captureBeyondViewport=True)
    picture = Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")
    picture = picture.crop((0, 0, picture.width, min(picture.height, HIGHEST)))
    palette = picture.quantize(128, dither=Image.Dither.NONE)
    palette.save(PICTURES / f"{name}.png", optimize=True)


def main() -> None:
    """Start a service, wait until there is something to see, and take the pictures."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, reserved_port() as port:
        directory = Path(name)
        (directory / "shop.py").write_text(APP)
        (directory / "gunicorn.conf.py").write_text(CONF)
        env = {
            "UVWORKER_OPS_BIND": f"127.0.0.1:{port}",
            "UVWORKER_OPS_REQUESTS": "true",
        }
        service = Service(directory, "-w", "4", app="shop:app", env=env).ready(4)
        until = time.monotonic() + SECONDS
        clients = [
            threading.Thread(target=load, args=(service.url, until + 30), daemon=True)
            for _ in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        time.sleep(SECONDS / 2)
        service.kill(signal.SIGHUP)
        time.sleep(SECONDS / 2)
        url = f"http://127.0.0.1:{port}"
        with browser() as tab:
            shoot(tab, url, "page-light", scheme="light")
            shoot(tab, url, "page-phone", scheme="light", width=360)
            service.begin("/reports/yearly")
            tab.show(scheme="dark")
            tab.open(url)
            tab.wait("#workers", "blocked")
            shoot(tab, url, "page-dark", scheme="dark")
        service.stop()


if __name__ == "__main__":
    main()
