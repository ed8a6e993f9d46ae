"""Quart: gunicorn -k uvworker.Worker -w 4 quart_app:app."""

import os

from quart import Quart, request

app = Quart(__name__)


@app.get("/")
async def hello() -> dict[str, str | int]:
    name = request.args.get("name", "world")
    return {"message": f"Hello, {name}!", "worker": os.getpid()}
