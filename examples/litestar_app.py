"""Litestar: gunicorn -k uvworker.Worker -w 4 litestar_app:app."""

import os

from litestar import Litestar, get


@get("/")
async def hello(name: str = "world") -> dict[str, str | int]:
    return {"message": f"Hello, {name}!", "worker": os.getpid()}


app = Litestar([hello])
