"""A chat over WebSockets that loses no message in a deploy.

gunicorn -k uvworker.Worker -w 4 chat:app    # then kill -HUP while people talk

A leaving worker closes its WebSockets with 1012. A client connects again, names the
last message that it has, gets what it missed, and sends again what did not come back.
All workers use one database: SQLite here, one that all machines reach elsewhere.
"""

import asyncio
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

DATABASE = os.environ.get("CHAT_DATABASE", "chat.sqlite3")
POLL = 0.1  # seconds between two looks; a broker such as Redis would tell

PAGE = """<!doctype html><title>Chat</title><ul></ul><form><input autofocus></form>
<script>
const [list, form, input] = ["ul", "form", "input"].map(n => document.querySelector(n))
const pending = new Map()  // what we sent and have not seen
let last = 0, socket
function send(key, text) {
  if (socket.readyState == WebSocket.OPEN) socket.send(JSON.stringify({key, text}))
}
function connect() {
  socket = new WebSocket(`ws://${location.host}/chat?after=${last}`)
  socket.onopen = () => pending.forEach((text, key) => send(key, text))
  socket.onmessage = ({data}) => {
    const message = JSON.parse(data)
    last = message.id
    pending.delete(message.key)
    list.append(Object.assign(document.createElement("li"), {innerText: message.text}))
  }
  socket.onclose = () => setTimeout(connect, 200 + 800 * Math.random())
}
form.onsubmit = event => {
  event.preventDefault()
  const key = Date.now() + "-" + Math.random()
  pending.set(key, input.value)
  send(key, input.value)
  input.value = ""
}
connect()
</script>"""

TABLE = "CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, key UNIQUE, text)"
TAKE = "INSERT OR IGNORE INTO messages (key, text) VALUES (?, ?)"  # sent again: once
NEWS = "SELECT id, key, text FROM messages WHERE id > ? ORDER BY id"


def query(sql: str, values: Iterable[object] = ()) -> list[Any]:
    """Run one statement, in microseconds, and return its rows."""
    with closing(sqlite3.connect(DATABASE, timeout=10)) as database, database:
        return database.execute(sql, tuple(values)).fetchall()


query(TABLE)


async def chat(socket: WebSocket) -> None:
    await socket.accept()
    telling = asyncio.create_task(tell(socket, int(socket.query_params["after"])))
    try:
        while True:
            message = await socket.receive_json()
            query(TAKE, (message["key"], message["text"]))
    except WebSocketDisconnect:
        pass
    finally:
        telling.cancel()


async def tell(socket: WebSocket, last: int) -> None:
    """Send every message after *last*, whichever worker took it."""
    while True:
        for number, key, text in query(NEWS, [last]):
            await socket.send_json({"id": number, "key": key, "text": text})
            last = number
        await asyncio.sleep(POLL)


async def page(_request: Request) -> HTMLResponse:
    return HTMLResponse(PAGE)


app = Starlette(routes=[Route("/", page), WebSocketRoute("/chat", chat)])
