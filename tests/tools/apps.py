"""Apps that several files of tests serve. They say on stdout what happens, and to whom.

`Service.said` reads it. The file ``hold-PLACE`` holds an app at that place of its life
for as long as the file exists.
"""

from __future__ import annotations

SAY = """
import os

def say(what):
    # One write, so that the lines of several processes do not mix.
    os.write(1, f"{os.getpid()} {what}\\n".encode())
"""

LIFE = (
    SAY
    + """
import asyncio, atexit
from pathlib import Path

atexit.register(say, "atexit")

async def reach(place):
    say(place)
    while Path("hold-" + place).exists():
        await asyncio.sleep(0.02)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await reach("startup")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await reach("shutdown")
        say("closed")
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "http":
        await reach("request")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
        say("answered")
    else:
        await receive()
        await send({"type": "websocket.accept"})
        await reach("websocket")
        await send({"type": "websocket.close"})
"""
)

SLOW_IMPORT = (
    SAY
    + """
import time
from pathlib import Path
say("import")
while Path("hold-import").exists():
    time.sleep(0.02)
"""
    + LIFE
)

# Nobody may not read a Python below /root, so root imports it all.
IMPORTED = """
import uvicorn, uvloop
config = uvicorn.Config(lambda: None, factory=True, log_config=None)
config.load()
config.get_loop_factory()
"""

# Hooks that say when and where they ran; for ``gunicorn.conf.py``.
HOOKS = (
    SAY
    + """
def worker_int(worker):
    say("worker_int")

def worker_abort(worker):
    say("worker_abort")

def worker_exit(server, worker):
    say("worker_exit")
"""
)

# Answers, to HTTP and to a WebSocket, with what it was told of the request.
SCOPE = """
import json

TOLD = ("type", "http_version", "method", "scheme", "client", "server", "root_path",
        "path", "raw_path", "query_string", "headers")

def told(scope, body):
    report = {name: scope.get(name) for name in TOLD}
    report |= {"body": len(body), "tls": scope.get("extensions", {}).get("tls")}
    return json.dumps(report, default=lambda value: value.decode("latin-1"))

async def read(receive):
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    return body

async def app(scope, receive, send):
    assert scope["type"] != "lifespan"
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": told(scope, b"")})
        await receive()  # the client's close: one of ours could overtake the message
    else:
        body = told(scope, await read(receive)).encode()
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})
"""
