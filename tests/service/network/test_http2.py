"""HTTP/2 beside HTTP/1.1 on one TLS port, through uvicorn's zttp."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.conftest import HELLO, Serve
from tests.tools.apps import SCOPE
from tests.tools.certificates import Certificates
from tests.tools.service import PATIENCE, Service, gunicorn_lacks

installed = importlib.util.find_spec("zttp") is not None
needs_zttp = pytest.mark.skipif(not installed, reason="zttp needs Python 3.11")
H2 = ("--http-protocols", "h2,h1")

pytestmark = gunicorn_lacks("http_protocols")


@pytest.fixture
def client(certificates: Certificates) -> Any:
    with httpx.Client(
        http1=False, http2=True, verify=certificates.client(), timeout=PATIENCE
    ) as client:
        yield client


def url(service: Service, path: str = "/") -> str:
    return f"https://localhost:{service.port}{path}"


def told(response: httpx.Response) -> Any:
    assert response.http_version == "HTTP/2"
    return response.json()


HANDLER = """
import logging
logging.getLogger("uvicorn.access").addHandler(logging.FileHandler("uvicorn.log"))
"""


@needs_zttp
def test_a_client_chooses_between_http_1_and_2(
    serve: Serve, certificates: Certificates, client: httpx.Client
) -> None:
    service = serve(SCOPE, *certificates.arguments, *H2)
    assert told(client.get(url(service)))["http_version"] == "2"
    old = httpx.get(url(service), verify=certificates.client(), timeout=PATIENCE)
    assert (old.http_version, old.json()["http_version"]) == ("HTTP/1.1", "1.1")


@needs_zttp
def test_a_websocket_comes_over_http_1(
    serve: Serve, certificates: Certificates
) -> None:
    service = serve(SCOPE, *certificates.arguments, *H2)
    address = f"wss://localhost:{service.port}/"
    with connect(address, ssl=certificates.client(), open_timeout=PATIENCE) as ws:
        assert json.loads(ws.recv(PATIENCE))["type"] == "websocket"


@needs_zttp
def test_the_settings_hold_over_http_2_too(
    serve: Serve, certificates: Certificates, client: httpx.Client
) -> None:
    """The proxy's word, names with underscores, hooks, root_path, TLS, the log."""
    conf = """
def pre_request(worker, req):
    print("pre", req.path, flush=True)

def post_request(worker, req, environ, resp):
    print("post", req.path, resp.status_code, flush=True)
"""
    arguments = (*certificates.arguments, *H2, "--root-path", "/api")
    logging = ("--access-logfile", "access.log", "--access-logformat", "%(h)s %(r)s")
    service = serve(SCOPE + HANDLER, *arguments, *logging, conf=conf)
    headers = {"x-forwarded-for": "192.0.2.7", "x_sly": "1", "x-fine": "2"}
    scope = told(client.post(url(service, "/a?b"), headers=headers, content=b"12345"))
    assert scope["client"] == ["192.0.2.7", 0]
    assert (scope["path"], scope["root_path"]) == ("/api/a", "/api")
    assert (scope["query_string"], scope["body"]) == ("b", 5)
    assert ["x-fine", "2"] in scope["headers"]
    assert "x_sly" not in dict(scope["headers"])
    assert dict(scope["headers"])["host"] == f"localhost:{service.port}"
    assert scope["tls"]["server_cert"] == certificates.certfile.read_text()
    assert service.stop() == 0
    assert service.out.splitlines() == ["pre /a", "post /a 200"]
    line = (service.directory / "access.log").read_text()
    assert line == "127.0.0.1 POST /a?b HTTP/2\n"
    line = (service.directory / "uvicorn.log").read_text()
    assert line == '192.0.2.7:0 - "POST /api/a?b HTTP/2" 200\n'


@needs_zttp
@pytest.mark.parametrize(
    "refused",
    [
        (("--limit-request-line", "40"), "/" + 40 * "a", {}, 414),
        (("--limit-request-fields", "8"), "/", {f"x-{n}": "" for n in range(9)}, 431),
        (("--limit-request-field_size", "99"), "/", {"x-long": 99 * "a"}, 431),
        (("--header-map", "refuse"), "/", {"x_sly": "1"}, 400),
        ((), "/", {"x-forwarded-proto": "https", "x-forwarded-ssl": "off"}, 400),
        ((), "/", {"host": "two words"}, 400),
    ],
)
def test_what_http_1_refuses_http_2_refuses(
    serve: Serve,
    certificates: Certificates,
    client: httpx.Client,
    refused: tuple[tuple[str, ...], str, dict[str, str], int],
) -> None:
    setting, path, headers, status = refused
    service = serve(HELLO, *certificates.arguments, *H2, *setting)
    assert client.get(url(service)).status_code == 200
    assert client.get(url(service, path), headers=headers).status_code == status
    service.wait_log(rf"Refused a request from 127.0.0.1:\d+ with {status}: ")
    over_http_1 = httpx.get(
        url(service, path),
        headers=headers,
        verify=certificates.client(),
        timeout=PATIENCE,
    )
    assert over_http_1.status_code == status


@needs_zttp
def test_a_stop_finishes_what_is_in_flight(
    serve: Serve, certificates: Certificates, client: httpx.Client
) -> None:
    app = """
import asyncio, os

async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
    while os.path.exists("hold"):
        await asyncio.sleep(0.02)
    await send({"type": "http.response.body", "body": b"and ended"})
"""
    service = serve(app, *certificates.arguments, *H2)
    hold = service.directory / "hold"
    hold.touch()
    with client.stream("GET", url(service)) as response:
        pieces = response.iter_bytes()
        assert next(pieces) == b"begun "
        service.process.terminate()
        service.wait_log("Handling signal: term")
        hold.unlink()
        assert b"".join(pieces) == b"and ended"
    assert service.wait_exit() == 0


@needs_zttp
def test_limits_that_http_2_does_not_know_are_named(
    serve: Serve, certificates: Certificates
) -> None:
    settings = ("--http2-max-concurrent-streams", "200", "--http2-max-frame-size")
    service = serve(HELLO, *certificates.arguments, *H2, *settings, "32768")
    service.wait_log(r"\[WARNING\] http2_max_concurrent_streams = 200 is .* in part")
    service.wait_log(r"\[WARNING\] http2_max_frame_size = 32768 is not honoured")


@needs_zttp
def test_http_2_without_tls_is_said_not_to_be_spoken(serve: Serve) -> None:
    service = serve(HELLO, *H2)
    service.wait_log(r"\[WARNING\] http_protocols .* HTTP/2 is spoken over TLS only")
    assert service.get().status_code == 200


def test_http_2_without_its_library_is_refused_with_what_to_install(
    serve: Serve, certificates: Certificates, tmp_path: Path
) -> None:
    if installed:  # as if it were not
        conf = "import sys\nsys.modules['zttp'] = None\n"
        (tmp_path / "zttp.py").write_text("raise ImportError")
    else:
        conf = ""
    service = serve(HELLO, *certificates.arguments, *H2, conf=conf, wait=0)
    assert service.wait_exit() == 1
    assert "pip install 'uvworker[http2]'" in service.log + service.out
