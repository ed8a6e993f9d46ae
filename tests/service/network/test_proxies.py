"""Who the client is behind nginx and haproxy, over TCP and unix sockets."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.conftest import Serve
from tests.tools.apps import SCOPE
from tests.tools.certificates import Certificates
from tests.tools.load import ECHO, Load
from tests.tools.proxies import haproxy, needs_haproxy, needs_nginx, nginx
from tests.tools.service import PATIENCE, Service, gunicorn_lacks, wait_for

Front = Callable[..., AbstractContextManager[int]]

BOTH = [
    pytest.param(nginx, marks=needs_nginx, id="nginx"),
    pytest.param(haproxy, marks=needs_haproxy, id="haproxy"),
]

has_modes = gunicorn_lacks("asgi_loop")  # versions of the protocol came with 24.0.0
MODES = not has_modes.args[0]

# Who announces clients by the PROXY protocol, and how gunicorn calls its version.
ANNOUNCING = [
    pytest.param((nginx, "", "v1"), marks=needs_nginx, id="nginx"),
    pytest.param((haproxy, "send-proxy", "v1"), marks=needs_haproxy, id="haproxy-v1"),
    pytest.param(
        (haproxy, "send-proxy-v2", "v2"),
        marks=[needs_haproxy, has_modes],
        id="haproxy-v2",
    ),
    pytest.param(
        (haproxy, "send-proxy-v2-ssl-cn", "auto"),
        marks=[needs_haproxy, has_modes],
        id="haproxy-tlv",
    ),
]


def address(service: Service, front: Front) -> str:
    """Return where *service* is, as the proxy's configuration has it."""
    path = service.directory / "app.sock"
    if not path.exists():
        return f"127.0.0.1:{service.port}"
    return f"unix:{path}" if front is nginx else f"unix@{path}"


@pytest.fixture(params=["tcp", "unix"])
def bind(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {"tcp": "127.0.0.1:0", "unix": f"unix:{tmp_path}/app.sock"}[request.param]


CLIENT = "127.0.0.9"  # no trusted hop, where 127.0.0.1 is one by default
FORGED = {"x-forwarded-for": "192.0.2.1"}  # by the client: the proxy appends to it


def client() -> httpx.Client:
    transport = httpx.HTTPTransport(local_address=CLIENT)
    return httpx.Client(transport=transport, headers=FORGED, timeout=PATIENCE)


# HTTP


@pytest.mark.parametrize("front", BOTH)
def test_the_proxy_says_who_the_client_is_and_how_it_came(
    serve: Serve, tmp_path: Path, bind: str, front: Front
) -> None:
    """Also for an upload and a WebSocket; what the client itself wrote is ignored."""
    service = serve(SCOPE, bind=bind)
    upload = bytes(5_000_000)
    with front(tmp_path, address(service, front)) as port, client() as http:
        told = http.post(f"http://localhost:{port}/a?b=c", content=upload).json()
        with connect(
            f"ws://localhost:{port}/a?b=c",
            additional_headers=FORGED,
            source_address=(CLIENT, 0),
            open_timeout=PATIENCE,
        ) as websocket:
            told_there = json.loads(websocket.recv(PATIENCE))
    assert told["body"] == len(upload)
    assert (told["scheme"], told_there["scheme"]) == ("https", "wss")
    for scope in (told, told_there):
        assert scope["client"] == [CLIENT, 0]
        assert (scope["path"], scope["query_string"]) == ("/a", "b=c")
        assert dict(scope["headers"])["host"] == f"localhost:{port}"


@pytest.mark.parametrize("front", BOTH)
def test_a_websocket_that_the_proxy_contradicts_itself_about_is_refused(
    serve: Serve, tmp_path: Path, front: Front
) -> None:
    service = serve(SCOPE, "--access-logfile", "-")
    with front(tmp_path, address(service, front)) as port:
        url = f"ws://localhost:{port}/"
        with pytest.raises(InvalidStatus) as refusal:
            connect(
                url,
                additional_headers={"x-forwarded-ssl": "off"},
                open_timeout=PATIENCE,
            )
    assert refusal.value.response.status_code == 400
    service.wait_log(r"Refused a request from 127.0.0.1:\d+ with 400: .* disagree")
    wait_for(lambda: '"GET / HTTP/1.1" 400' in service.out, "a line in the access log")


@pytest.mark.parametrize("front", BOTH)
def test_a_proxy_that_is_not_trusted_is_not_believed(
    serve: Serve, tmp_path: Path, front: Front
) -> None:
    service = serve(SCOPE, "--forwarded-allow-ips", "192.0.2.1")
    with front(tmp_path, address(service, front)) as port:
        told = httpx.get(f"http://localhost:{port}/", timeout=PATIENCE).json()
    assert told["scheme"] == "http"
    assert told["client"][0] == "127.0.0.1"
    assert told["client"][1] != 0


@needs_haproxy
@gunicorn_lacks("http2_cleartext")
def test_haproxy_loses_nothing_at_the_end_of_an_http2_connection(
    serve: Serve, tmp_path: Path
) -> None:
    """There is one after some 3,000 requests, and one in each reload.

    haproxy answers 502 for what it has sent beyond a GOAWAY, or for a reset stream.
    """
    pytest.importorskip("zttp", reason="zttp needs Python 3.11")
    http2 = "--http-protocols", "h2,h1", "--http2-cleartext", "prior-knowledge"
    service = serve(ECHO, *http2)
    with (
        haproxy(tmp_path, address(service, haproxy), "proto", "h2") as port,
        Load(("127.0.0.1", port), keep_alive=16, one_shot=0, fillings=[0]) as load,
    ):
        for generation in 2, 3:
            load.answer(10_000)
            service.kill(signal.SIGHUP)
            service.ready(generation)
            load.answer(10_000)
    assert load.failures == []


@needs_nginx
def test_an_app_below_script_name_knows_its_root(
    serve: Serve, tmp_path: Path, bind: str
) -> None:
    service = serve(SCOPE, bind=bind)
    with nginx(tmp_path, address(service, nginx)) as port:
        told = httpx.get(f"http://localhost:{port}/app/a", timeout=PATIENCE).json()
    assert (told["root_path"], told["path"]) == ("/app", "/app/a")


# The PROXY protocol


class Announced:
    """A service behind a proxy that passes connections on, and says whose they are."""

    def __init__(self, service: Service, port: int) -> None:
        self.service, self.port = service, port

    def get(self, context: ssl.SSLContext | None = None) -> tuple[Any, tuple[str, int]]:
        """Return what the app was told, and the client's true address."""
        client = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        mine = client.getsockname()
        if context:
            client = context.wrap_socket(client, server_hostname="localhost")
        with client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        return json.loads(answer.partition(b"\r\n\r\n")[2]), mine


@pytest.fixture
def announced(
    serve: Serve, tmp_path: Path
) -> Iterator[Callable[..., AbstractContextManager[Announced]]]:
    @contextmanager
    def start(
        how: tuple[Front, str, str], *args: str, bind: str
    ) -> Iterator[Announced]:
        front, option, mode = how
        arguments = (
            *("--proxy-protocol", mode)[: 1 + MODES],
            "--access-logfile",
            "-",
            *args,
        )
        service = serve(SCOPE, *arguments, bind=bind)
        upstream = address(service, front)
        running = (
            nginx(tmp_path, upstream, stream=True)
            if front is nginx
            else haproxy(tmp_path, upstream, option, mode="tcp")
        )
        with running as port:
            yield Announced(service, port)

    return start


@pytest.mark.parametrize("how", ANNOUNCING)
def test_an_announced_client_is_the_client(announced, bind: str, how) -> None:
    """For the app, for a WebSocket, and for %(h)s of the access log."""
    with announced(how, bind=bind) as behind:
        told, mine = behind.get()
        url = f"ws://localhost:{behind.port}/"
        with connect(url, open_timeout=PATIENCE) as websocket:
            mine_there = websocket.local_address
            told_there = json.loads(websocket.recv(PATIENCE))
        assert tuple(told["client"]) == mine
        assert told["server"] == ["127.0.0.1", behind.port]
        assert tuple(told_there["client"]) == mine_there
        lines = wait_for(
            lambda: re.findall(
                r"^(\S+) - - .*GET / ", behind.service.out, re.MULTILINE
            )[1:],
            "two lines in the access log",
        )
        assert set(lines) == {"127.0.0.1"}


@pytest.mark.parametrize("how", ANNOUNCING)
def test_tls_begins_behind_the_announcement(
    announced, certificates: Certificates, how
) -> None:
    with announced(how, *certificates.arguments, bind="127.0.0.1:0") as behind:
        told, mine = behind.get(certificates.client())
    assert tuple(told["client"]) == mine
    assert told["scheme"] == "https"
    assert told["tls"]["server_cert"] == certificates.certfile.read_text()


@pytest.mark.parametrize("how", ANNOUNCING)
def test_who_may_not_announce_is_refused(announced, how) -> None:
    allowed = ("--proxy-allow-from", "192.0.2.1")
    with announced(how, *allowed, bind="127.0.0.1:0") as behind:
        with pytest.raises((json.JSONDecodeError, ConnectionError)):
            behind.get()
        behind.service.wait_log(
            r"\[WARNING\] A connection was lost before HTTP: 127.0.0.1 sent a PROXY "
        )
        assert "not connected" not in behind.service.log
