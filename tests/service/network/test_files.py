"""Files that an app sends by their path, as Starlette's `FileResponse` does."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.tools.apps import SAY
from tests.tools.certificates import Certificates
from tests.tools.service import PATIENCE, Service, open_files, wait_for

SIZE = 20_000_000  # more than a kernel holds for a client that does not read

# `/` answers with the file "it"; says how the kernel was asked for its bytes.
APP = (
    SAY
    + """
from starlette.responses import FileResponse

def saying(name, function):
    def called(*arguments):
        say(name)
        return function(*arguments)
    return called

os.sendfile, os.pread = saying("sendfile", os.sendfile), saying("read", os.pread)

async def app(scope, receive, send):
    assert scope["type"] == "http"
    try:
        await FileResponse("it")(scope, receive, send)
    finally:
        say("ended")
"""
)

LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    content = os.urandom(1000) * (SIZE // 1000)
    (tmp_path / "it").write_bytes(content)
    return content


def option(loop: str) -> str:
    return f"asgi_loop = {loop!r}\n"


def begin(service: Service) -> socket.socket:
    """Ask for the file, and take its first bytes only."""
    client = service.connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    client.recv(100)
    return client


def lets_go(service: Service) -> Callable[[], bool]:
    """Return whether no worker has the file open any more."""
    name = str(service.directory / "it")
    return lambda: (
        not any(
            name == open_on
            for pid in service.workers()
            for open_on in open_files(pid).values()
        )
    )


def rest(client: socket.socket) -> int:
    """Return how many bytes come until the server closes, and close."""
    with client:
        return sum(len(more) for more in iter(lambda: client.recv(1 << 20), b""))


@LOOPS
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_file_arrives_whole_in_part_and_as_a_head(
    serve: Serve, certificates: Certificates, content: bytes, loop: str, secure: bool
) -> None:
    arguments = certificates.arguments if secure else []
    service = serve(APP, *arguments, "--access-logfile=-", conf=option(loop))
    verify = certificates.client() if secure else ssl.create_default_context()
    url = f"http{'s' * secure}://localhost:{service.port}/"
    with httpx.Client(verify=verify, timeout=PATIENCE) as client:
        for _ in range(2):
            assert client.get(url).content == content
        part = client.get(url, headers={"range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, content[10:20])
        head = client.head(url)
        assert (head.headers["content-length"], head.content) == (str(SIZE), b"")
    sizes = re.compile(r'"(GET|HEAD) / HTTP/1.1" (\d+) (\d+)')
    wait_for(lambda: len(sizes.findall(service.out)) == 4, "four access lines")
    whole = ("GET", "200", str(SIZE))
    assert sizes.findall(service.out) == [
        *(whole, whole),
        *(("GET", "206", "10"), ("HEAD", "200", "0")),
    ]
    assert bool(service.said("sendfile")) is not secure


@pytest.mark.parametrize(
    ("told", "sends"),
    [
        ({}, True),
        ({"conf": "sendfile = True", "env": {"SENDFILE": "0"}}, True),
        ({"conf": "sendfile = False"}, False),
        ({"conf": "sendfile = False", "env": {"SENDFILE": "1"}}, False),
        ({"env": {"SENDFILE": "no"}}, False),
        ({"conf": "raw_env = ['SENDFILE=0']"}, False),
        ({"env": {"SENDFILE": "yes"}}, True),
    ],
)
def test_sendfile_says_whether_a_file_goes_by_its_path(
    serve: Serve, content: bytes, told: dict[str, Any], sends: bool
) -> None:
    service = serve(APP, **{"env": {"SENDFILE": None}, **told})
    assert service.get().content == content
    service.wait_said("ended")
    assert bool(service.said("sendfile")) is sends
    assert not service.said("read")  # without it, the framework reads by itself


COMPRESSING = """
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse
from starlette.routing import Mount, Route

async def it(request):
    return FileResponse("it", media_type="text/css")

class Socketio:  # keeps what it wraps as python-socketio's ASGIApp does
    def __init__(self, app):
        self.other_asgi_app = app
    async def __call__(self, *arguments):
        await self.other_asgi_app(*arguments)

middleware = [Middleware(GZipMiddleware)]
routes = [Route("/", it)]
APPS = {
    "listed": Starlette(routes=routes, middleware=middleware),
    "around": GZipMiddleware(Starlette(routes=routes)),
    "mounted": Starlette(routes=[
        Mount("/", Starlette(routes=routes, middleware=middleware)),
    ]),
    "behind socketio": Socketio(Starlette(routes=routes, middleware=middleware)),
}
"""


@pytest.mark.parametrize("where", ["listed", "around", "mounted", "behind socketio"])
def test_an_app_that_compresses_gets_the_bytes_of_its_files(
    serve: Serve, content: bytes, where: str
) -> None:
    """Else they would go out as they are, or not at all, by the middleware."""
    service = serve(f"{COMPRESSING}\napp = APPS[{where!r}]")
    response = service.get()
    assert response.headers["content-encoding"] == "gzip"
    assert response.content == content
    assert service.log.count("GZipMiddleware compresses: ") == 1


def test_an_app_that_compresses_sends_paths_where_that_is_asked_for(
    serve: Serve, content: bytes
) -> None:
    service = serve(f"{COMPRESSING}\napp = APPS['listed']", conf="sendfile = True")
    response = service.get()
    assert "content-encoding" not in response.headers
    assert response.content == content


def test_no_sendfile_is_the_argument_for_it(serve: Serve, content: bytes) -> None:
    service = serve(APP, "--no-sendfile")
    assert service.get().content == content
    assert not service.said("sendfile")


@LOOPS
def test_a_stop_ends_a_file_in_time(serve: Serve, content: bytes, loop: str) -> None:
    conf = option(loop) + "graceful_timeout = 2"
    service = serve(APP, conf=conf)
    client = begin(service)
    assert service.stop() == 0
    assert rest(client) < len(content)
    assert service.said("ended")


@LOOPS
def test_a_stop_lets_a_file_arrive(serve: Serve, content: bytes, loop: str) -> None:
    service = serve(APP, conf=option(loop))
    client = begin(service)
    service.kill(signal.SIGTERM)
    assert rest(client) > len(content)
    assert service.wait_exit() == 0


@LOOPS
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_request_timeout_ends_a_file(
    serve: Serve, certificates: Certificates, content: bytes, loop: str, secure: bool
) -> None:
    arguments = certificates.arguments if secure else []
    env = {"UVWORKER_REQUEST_TIMEOUT": "1"}
    service = serve(APP, *arguments, conf=option(loop), env=env)
    client = service.connect()
    if secure:
        context = certificates.client()
        client = context.wrap_socket(client, server_hostname="localhost")
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    service.wait_said("ended")
    wait_for(lets_go(service), "the file is closed")
    assert rest(client) < len(content)


@LOOPS
def test_a_client_that_leaves_lets_go_of_the_file(
    serve: Serve, content: bytes, loop: str
) -> None:
    assert content
    service = serve(APP, conf=option(loop))
    begin(service).close()
    service.wait_said("ended")
    wait_for(lets_go(service), "the file is closed")
    assert "Traceback" not in service.log


def test_a_file_that_is_replaced_by_a_directory_costs_one_line(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "it").mkdir()
    source = APP.replace('FileResponse("it")', 'FileResponse("it", stat_result=STAT)')
    service = serve("import os\nSTAT = os.stat(__file__)\n" + source)
    assert service.get().status_code == 500
    [line] = service.wait_log(r"The file 'it' cannot answer GET '/': .*")
    assert line[0].endswith("it is no regular file.")
    assert "Traceback" not in service.log
