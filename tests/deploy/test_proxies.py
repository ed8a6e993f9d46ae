"""nginx, haproxy and Caddy with the files of ``conf/``, before a running service."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.conftest import Serve
from tests.deploy.shipped import (
    CADDY_FRONT,
    CONF,
    FRONTS,
    HAPROXY_FRONT,
    NGINX_FRONT,
    Front,
    Site,
    haproxy_tcp,
    nginx_tcp,
)
from tests.tools.apps import SAY, SCOPE
from tests.tools.certificates import Certificates
from tests.tools.load import ECHO, FILLINGS, Load
from tests.tools.proxies import needs_haproxy, needs_nginx, running
from tests.tools.service import PATIENCE, Service, reserved_port, wait_for

CLIENT = "127.0.0.9"  # no trusted hop, where 127.0.0.1 is one by default
FORGED = "203.0.113.1"  # what a client writes into X-Forwarded-For itself

GIGABYTE = 1 << 30

SOAK = int(os.environ.get("UVWORKER_SOAK", "3"))  # reloads

STREAMS = (
    SAY
    + """
import asyncio
from pathlib import Path

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/upload":
        return await upload(receive, send)
    kind = (b"content-type", b"text/event-stream")
    await send({"type": "http.response.start", "status": 200, "headers": [kind]})
    body = {"type": "http.response.body", "body": b"data: 1\\n\\n", "more_body": True}
    await send(body)
    while not Path("second").exists():
        await asyncio.sleep(0.02)
    await send({"type": "http.response.body", "body": b"data: 2\\n\\n"})

async def upload(receive, send):
    size, more = 0, True
    while more:
        message = await receive()
        if not size:
            say("first bytes")
        size += len(message["body"])
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % size})
"""
)

Behind = Callable[..., tuple[Service, Site]]

OPTIONS = {"UVWORKER_READY_PATH": "/-/ready"}


@pytest.fixture(params=["tcp", "unix"])
def bind(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {"tcp": "127.0.0.1:0", "unix": f"unix:{tmp_path}/app.sock"}[request.param]


@pytest.fixture
def behind(
    serve: Serve, tmp_path: Path, certificates: Certificates
) -> Iterator[Behind]:
    """Start a service, and a proxy with its shipped file before it."""
    with ExitStack() as stack:

        def start(
            front: Front, source: str, *args: str, bind: str = "127.0.0.1:0"
        ) -> tuple[Service, Site]:
            conf = (CONF / "gunicorn.conf.py").read_text()
            args = ("-w", "1", *args)
            service = serve(source, *args, conf=conf, bind=bind, env=OPTIONS)
            before = front.before(tmp_path, certificates, front.address(service))
            return service, stack.enter_context(before)

        yield start


def curl(site: Site, path: str, *args: str) -> list[str]:
    return [
        *("curl", "--silent", "--show-error", "--no-buffer", "--interface", CLIENT),
        *("--cacert", str(site.certificates.ca_certs), "--max-time", "60"),
        *("--header", f"X-Forwarded-For: {FORGED}", *args),
        f"https://localhost:{site.port}{path}",
    ]


def ask(site: Site, path: str, *args: str) -> str:
    command = curl(site, path, "--fail", *args)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("front", FRONTS)
def test_app_and_log_know_who_the_client_is(
    behind: Behind, front: Front, bind: str
) -> None:
    """By HTTP/1.1, HTTP/2, WebSocket; what a client says of itself is not passed on."""
    service, site = behind(front, SCOPE, bind=bind)
    told = {
        version: json.loads(ask(site, f"/{version}", "-d", "body", f"--http{version}"))
        for version in ("1.1", "2")
    }
    with connect(
        f"wss://localhost:{site.port}/websocket",
        ssl=site.certificates.client(),
        additional_headers={"X-Forwarded-For": FORGED},
        source_address=(CLIENT, 0),
        open_timeout=PATIENCE,
    ) as websocket:
        told["websocket"] = json.loads(websocket.recv(PATIENCE))
    for name, scope in told.items():
        assert scope["client"][0] == CLIENT, name
        assert scope["path"] == f"/{name}"
        assert dict(scope["headers"])["host"] == f"localhost:{site.port}"
        line = re.compile(f"^{CLIENT} .* /{name} ", re.MULTILINE)
        wait_for(lambda line=line: line.search(service.out), f"{line} in the log")
    assert {scope["scheme"] for scope in told.values()} == {"https", "wss"}


@pytest.mark.parametrize("front", FRONTS)
def test_plain_http_is_sent_to_https(behind: Behind, front: Front) -> None:
    _, site = behind(front, SCOPE)
    client = http.client.HTTPConnection("localhost", site.http_port, timeout=PATIENCE)
    client.request("GET", "/a?b=c")
    answer = client.getresponse()
    client.close()
    assert answer.status == 308
    assert re.fullmatch(r"https://localhost(:\d+)?/a\?b=c", answer.headers["location"])


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("version", ["1.1", "2"])
def test_an_event_leaves_before_the_next_is_made(
    behind: Behind, front: Front, version: str
) -> None:
    service, site = behind(front, STREAMS)
    command = curl(site, "/events", f"--http{version}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout
        assert client.stdout.readline() == "data: 1\n"
        (service.directory / "second").touch()
        assert client.stdout.read() == "\ndata: 2\n\n"
    assert client.returncode == 0


@pytest.mark.parametrize("front", FRONTS)
def test_the_app_reads_a_gigabyte_as_it_is_sent(behind: Behind, front: Front) -> None:
    """The rest is sent once the app has read the beginning: no disk is in between."""
    service, site = behind(front, STREAMS)
    context = site.certificates.client()
    client = http.client.HTTPSConnection(
        "localhost", site.port, timeout=PATIENCE, context=context
    )
    client.putrequest("POST", "/upload")
    client.putheader("Content-Length", str(GIGABYTE))
    client.endheaders()
    piece = bytes(1 << 20)
    client.send(piece)
    service.wait_said("first bytes")
    for _ in range(GIGABYTE // len(piece) - 1):
        client.send(piece)
    assert int(client.getresponse().read()) == GIGABYTE
    client.close()


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.soak
def test_reloads_behind_the_proxy_fail_no_request(behind: Behind, front: Front) -> None:
    service, site = behind(front, ECHO, "-w", "2")
    tls = site.certificates.client()
    tls.maximum_version = tls.maximum_version.TLSv1_2  # 1.3's tickets look like an end
    # Without any reload, Caddy 2.6 cuts one long answer in 10,000 short when it comes
    # before Caddy has seen the end of the request's body.
    fillings = (0, 700) if front is CADDY_FRONT else FILLINGS
    with Load(("127.0.0.1", site.port), tls=tls, fillings=fillings) as load:
        for generation in range(1, SOAK + 1):
            service.kill(signal.SIGHUP)
            service.ready(2 * (1 + generation))
            load.answer(2000 if SOAK > 3 else 200)
    assert load.failures == []
    print(f"{front.name}: {load.answered} requests, {SOAK} reloads")  # noqa: T201


# TCP passed on, with a PROXY header

ANNOUNCING = [
    pytest.param((NGINX_FRONT, nginx_tcp), marks=needs_nginx, id="nginx"),
    pytest.param((HAPROXY_FRONT, haproxy_tcp), marks=needs_haproxy, id="haproxy"),
]


@pytest.mark.parametrize("how", ANNOUNCING)
def test_tls_ends_in_the_worker_that_is_told_of_the_client(
    serve: Serve,
    tmp_path: Path,
    certificates: Certificates,
    how: tuple[Front, Callable[[Site], list[str]]],
) -> None:
    front, command_of = how
    service = serve(
        SCOPE,
        *("--access-logfile", "-", *certificates.arguments),
        conf="proxy_protocol = True",
        env=OPTIONS,
    )
    with reserved_port() as port:
        site = Site(tmp_path, certificates, (f"127.0.0.1:{service.port}",), port, 0)
        command = command_of(site)
        assert front.check(command) == ""
        with running(command, tmp_path, port):
            told = json.loads(ask(site, "/a"))
    assert told["client"][0] == CLIENT
    assert told["scheme"] == "https"
    assert told["tls"]["server_cert"] == certificates.certfile.read_text()
    wait_for(lambda: f"{CLIENT} - - " in service.out, "the access line")


# nginx's trap


class Host(AbstractContextManager["Host"]):
    """A host that can restart: refuses connections, and answers again."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        address = ("127.0.0.1", self.port)
        self.server = http.server.ThreadingHTTPServer(address, Here)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=[0.01]).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def __exit__(self, *_exc: object) -> None:
        self.stop()


class Here(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        pass


@needs_nginx
@pytest.mark.parametrize("shipped", [True, False], ids=["shipped", "nginx's default"])
def test_nginx_forgets_all_hosts_after_a_rollout_unless_max_fails_is_0(
    tmp_path: Path, certificates: Certificates, shipped: bool
) -> None:
    """The trap of nginx's default is still there: all hosts serve, and it says 502."""
    with ExitStack() as stack:
        hosts = [stack.enter_context(Host()) for _ in range(3)]
        apps = [f"127.0.0.1:{host.port}" for host in hosts]
        with reserved_port() as port, reserved_port() as http_port:
            site = Site(tmp_path, certificates, tuple(apps), port, http_port)
            command = NGINX_FRONT.files(site)
            file = tmp_path / "nginx-app.conf"
            if not shipped:
                file.write_text(file.read_text().replace(" max_fails=0", ""))
            with running(command, tmp_path, port):
                statuses = [status(site)]
                for host in hosts:
                    host.stop()
                    statuses += [status(site) for _ in hosts]
                    host.start()
                statuses += [status(site) for _ in hosts]
    good, bad = (200, 502)
    assert statuses[-3:] == [good if shipped else bad] * 3
    assert shipped == (set(statuses) == {good})


def status(site: Site) -> int:
    write = ("--write-out", "%{http_code}", "--output", "/dev/null")
    command = curl(site, "/", *write)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)
