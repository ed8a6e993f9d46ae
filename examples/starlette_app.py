"""Starlette: gunicorn -k uvworker.Worker -w 4 starlette_app:app."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, str]]:
    """Make what the requests of one worker share."""
    yield {"greeting": "Hello"}


async def hello(request: Request) -> JSONResponse:
    name = request.query_params.get("name", "world")
    greeting = request.state.greeting
    return JSONResponse({"message": f"{greeting}, {name}!", "worker": os.getpid()})


app = Starlette(routes=[Route("/", hello)], lifespan=lifespan)
