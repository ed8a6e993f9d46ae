"""Each file of ``examples/`` under a real arbiter, started as its docstring says."""

from __future__ import annotations

import json
import re
import signal
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.conftest import Serve
from tests.tools.service import PATIENCE, Service, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"
ELSEWHERE = {"main", "tokens", "chat"}  # below, and in tests/service/boot
FRAMEWORKS = {path.stem for path in EXAMPLES.glob("*.py")} - ELSEWHERE


def example(serve: Serve, name: str, workers: int = 2, **env: str) -> Service:
    text = (EXAMPLES / f"{name}.py").read_text()
    if variable := re.search(r"^(UVICORN_\w+)=(\w+) gunicorn", text, re.MULTILINE):
        env[variable[1]] = variable[2]
    args = ("-w", str(workers), "--chdir", str(EXAMPLES))
    return serve("", *args, app=f"{name}:app", env=env, wait=workers)


@pytest.mark.parametrize("name", sorted(FRAMEWORKS))
def test_a_framework_answers_from_the_services_workers(serve: Serve, name: str) -> None:
    service = example(serve, name)
    answer = service.get("/", params={"name": "gunicorn"}).json()
    assert answer["message"] == "Hello, gunicorn!"
    assert answer["worker"] in service.workers()
    assert service.stop() == 0
    assert "ERROR" not in service.log


def test_a_model_stops_when_its_client_leaves(serve: Serve) -> None:
    service = example(serve, "tokens", workers=1)
    url = service.url + "/generate?prompt=one+two"
    with httpx.stream("GET", url, timeout=PATIENCE) as answer:
        assert next(answer.iter_lines()) == "data: one"
    wait_for(lambda: "a stream was left by its client" in service.out, "the stop")
    assert service.get("/generate?prompt=three").text.count("data: three") == 200
    wait_for(lambda: "a stream is done after 200 tokens" in service.out, "the end")


class Talker:
    """What the chat's page does: connect again, and send what did not come back."""

    def __init__(self, service: Service, until: ExitStack) -> None:
        self.url = f"ws://127.0.0.1:{service.port}/chat"
        self.until = until
        self.heard: list[dict[str, str]] = []
        self.pending: list[str] = []
        self.closed: set[int | None] = set()  # the codes of closes
        self._connect()

    def _connect(self) -> None:
        last = self.heard[-1]["id"] if self.heard else 0
        socket = connect(f"{self.url}?after={last}", open_timeout=PATIENCE)
        self.socket = self.until.enter_context(socket)
        for text in self.pending:
            self._send(text)

    def _send(self, text: str) -> None:
        with suppress(ConnectionClosed):  # `listen` notices, too
            self.socket.send(json.dumps({"key": text, "text": text}))

    def say(self, text: str) -> None:
        self.pending.append(text)
        self._send(text)

    def listen(self, text: str) -> None:
        """Wait for *text*, on a new connection if need be."""
        while text not in self.texts():
            try:
                message = json.loads(self.socket.recv(PATIENCE))
            except ConnectionClosed as closed:  # noqa: PERF203
                self.closed.add(closed.rcvd and closed.rcvd.code)
                self._connect()
            else:
                self.heard.append(message)
                self.pending = [t for t in self.pending if t != message["key"]]

    def texts(self) -> list[str]:
        return [message["text"] for message in self.heard]


def test_a_chat_loses_no_message_in_a_deploy(serve: Serve, tmp_path: Path) -> None:
    service = example(serve, "chat", CHAT_DATABASE=str(tmp_path / "chat.sqlite3"))
    assert "new WebSocket" in service.get("/").text
    with ExitStack() as until:
        alice, bob = Talker(service, until), Talker(service, until)
        old = service.workers()
        alice.say("before")
        bob.listen("before")
        service.kill(signal.SIGHUP)
        alice.say("during")
        for worker in old:
            service.wait_gone(worker)
        alice.listen("during")  # each sees first what it sent, and sends it again
        bob.listen("during")
        bob.say("after")
        bob.listen("after")
        alice.listen("after")
        assert alice.texts() == bob.texts() == ["before", "during", "after"]
        assert alice.closed == bob.closed == {1012}
