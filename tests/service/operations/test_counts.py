"""What the metrics count is what happened."""

from __future__ import annotations

import os
import signal
import ssl
import time
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.conftest import HELLO
from tests.service.network.test_http2 import H2, needs_zttp
from tests.tools.apps import LIFE, SCOPE
from tests.tools.certificates import Certificates
from tests.tools.service import PATIENCE, gunicorn_lacks, wait_for

from .conftest import Operate, Operated

EXITS = "uvworker_worker_exits_total"
REQUESTS = "http_server_request_duration_seconds_count"


def wait_sample(operated: Operated, name: str, label: str, value: float) -> None:
    wait_for(
        lambda: operated.samples(name).get(label) == value,
        f"{name} {label} is {value}",
    )


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS])
def test_a_killed_worker_is_counted_by_its_signal(
    operate: Operate, signum: signal.Signals
) -> None:
    operated = operate()
    operated.service.kill(signum, operated.service.workers()[0])
    operated.service.ready(2)
    wait_sample(operated, EXITS, f"killed/{signum.name}", 1)
    assert sum(operated.samples(EXITS).values()) == 1


ENDS = """
import os, sys, asyncio

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/os":
        os._exit(7)
    asyncio.get_running_loop().call_later(0.1, sys.exit, 7)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
"""


@pytest.mark.parametrize(("path", "reason"), [("/os", "unexplained"), ("/", "app")])
def test_a_worker_that_its_app_ends_is_counted_apart(
    operate: Operate, path: str, reason: str
) -> None:
    operated = operate(ENDS)
    operated.service.begin(path)
    operated.service.ready(2)
    wait_sample(operated, EXITS, reason, 1)
    assert sum(operated.samples(EXITS).values()) == 1


STUCK = """
import os, signal

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/stuck":  # as C code that never returns
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGABRT])
        while True:
            os.read(os.pipe()[0], 1)
"""


def test_a_worker_that_hangs_and_cannot_say_so_is_counted_as_hung(
    operate: Operate,
) -> None:
    operated = operate(STUCK, "--timeout", "1")
    operated.service.begin("/stuck")
    operated.service.ready(2)
    wait_sample(operated, EXITS, "hung", 1)


def test_reloads_are_counted_by_how_they_ended(
    operate: Operate, tmp_path: Path
) -> None:
    # gunicorn waits for so long before it handles a second HUP.
    operated = operate(HELLO, "-w", "2", "--graceful-timeout", "3", wait=2)
    app = tmp_path / "main.py"
    good = app.read_text()

    def reload() -> None:
        operated.service.kill(signal.SIGHUP)

    assert operated.samples("uvworker_last_reload_successful") == {}
    before = time.time()
    reload()
    wait_sample(operated, "uvworker_reloads_total", "good", 1)
    began = operated.samples("uvworker_last_reload_timestamp_seconds")[""]
    assert int(before) <= began < time.time()
    app.write_text("raise RuntimeError")
    reload()
    wait_sample(operated, "uvworker_reloads_total", "failed", 1)
    assert operated.samples("uvworker_last_reload_successful") == {"": 0}
    assert operated.samples("uvworker_reloads_total")["good"] == 1
    app.write_text(good)
    reload()
    wait_sample(operated, "uvworker_reloads_total", "good", 2)
    assert operated.samples("uvworker_last_reload_successful") == {"": 1}
    assert operated.samples("uvworker_reloads_total")["failed"] == 1
    wait_sample(operated, "uvworker_boot_duration_seconds_count", "", 6)


def test_methods_that_nobody_knows_are_one_label(operate: Operate) -> None:
    operated = operate(SCOPE)
    for method in ("PURGE", "PROPFIND", "UNLINK"):
        answer = httpx.request(method, operated.service.url, timeout=PATIENCE)
        assert answer.status_code == 200
    wait_for(lambda: operated.counted() == 3, "three requests counted")
    assert operated.samples(REQUESTS) == {"_OTHER/2xx": 3}


PARSERS = [
    pytest.param((), id="ours"),
    pytest.param(("UVICORN_HTTP", "h11"), id="h11"),
    pytest.param(("UVICORN_WS", "websockets"), id="websockets"),
]


@pytest.mark.parametrize("variable", PARSERS)
def test_an_open_websocket_is_no_request_in_flight(
    operate: Operate, tmp_path: Path, variable: tuple[str, str]
) -> None:
    hold = tmp_path / "hold-websocket"
    hold.touch()
    operated = operate(LIFE, **dict([variable] if variable else []))
    with connect(f"ws://127.0.0.1:{operated.service.port}") as websocket:
        wait_sample(operated, "uvworker_websockets", "0", 1)
        wait_sample(operated, "http_server_active_requests", "0", 0)
        assert operated.samples("uvworker_connections") == {"0": 1}
        hold.unlink()
        with pytest.raises(Exception, match="1000"):
            websocket.recv(PATIENCE)
    wait_sample(operated, "uvworker_websockets", "0", 0)
    wait_sample(operated, REQUESTS, "GET/1xx", 1)


@needs_zttp
@gunicorn_lacks("http_protocols")
def test_streams_of_http_2_count_as_requests(
    operate: Operate, certificates: Certificates
) -> None:
    operated = operate(SCOPE, *certificates.arguments, *H2)
    url = f"https://localhost:{operated.service.port}"
    context = certificates.client()
    with httpx.Client(http2=True, verify=context, timeout=PATIENCE) as client:
        for _ in range(5):
            assert client.post(url, content=b"12345").http_version == "HTTP/2"
        sent = sum(len(client.get(url).content) for _ in range(2))
    wait_for(lambda: operated.counted() == 7, "seven requests counted")
    assert operated.samples(REQUESTS) == {"POST/2xx": 5, "GET/2xx": 2}
    received = operated.samples("http_server_request_body_size_bytes_sum")
    assert received == {"POST/2xx": 25, "GET/2xx": 0}
    answered = operated.samples("http_server_response_body_size_bytes_sum")
    assert answered["GET/2xx"] == sent
    wait_sample(operated, "uvworker_connections_accepted_total", "", 1)


def test_a_refused_request_is_counted_by_its_reason(operate: Operate) -> None:
    operated = operate(HELLO, "--limit-request-line", "100")
    for request in (
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 200 + b" HTTP/1.1\r\n\r\n",
    ):
        with operated.service.connect() as client:
            client.sendall(request)
            assert client.recv(1000)
    name = "uvworker_refused_requests_total"
    wait_sample(operated, name, "line_too_long", 1)
    assert operated.samples(name)["malformed"] == 1
    assert sum(operated.samples(name).values()) == 2


def test_a_full_worker_pauses(operate: Operate) -> None:
    operated = operate(HELLO, "--worker-connections", "2")
    clients = [operated.service.connect() for _ in range(3)]
    wait_sample(operated, "uvworker_accept_pauses_total", "full", 1)
    assert operated.samples("uvworker_connections") == {"0": 2}
    assert operated.samples("uvworker_connections_limit") == {"": 2}
    wait_sample(operated, "uvworker_connections_accepted_total", "", 2)
    for client in clients:
        client.close()


BLOCKS = """
import pathlib, time

async def app(scope, receive, send):
    assert scope["type"] == "http"
    while pathlib.Path("hold-loop").exists():
        time.sleep(0.02)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
"""


def test_a_blocked_loop_shows_while_it_is_blocked_and_afterwards(
    operate: Operate, tmp_path: Path
) -> None:
    operated = operate(BLOCKS, UVWORKER_STALL_WARNING="0.5")
    hold = tmp_path / "hold-loop"
    hold.touch()
    request = operated.service.begin()
    wait_sample(operated, "uvworker_loop_stalls_total", "", 1)
    wait_for(
        lambda: operated.samples("uvworker_loop_lag_seconds")["0"] > 0.5,
        "the lag of a loop that is blocked now",
    )
    hold.unlink()
    assert request.getresponse().status == 200
    wait_for(
        lambda: operated.samples("uvworker_loop_stalled_seconds_total")[""] >= 0.5,
        "the seconds of the stall",
    )
    assert operated.samples("uvworker_loop_lag_worst_seconds")["0"] > 0.5


def test_a_worker_shows_what_it_uses(operate: Operate) -> None:
    operated = operate()
    [worker] = operated.service.workers()
    name = "uvworker_open_descriptors"
    files = len(os.listdir(f"/proc/{worker}/fd"))  # noqa: PTH208
    wait_for(lambda: operated.samples(name) == {"0": files}, "open descriptors")
    assert operated.samples("uvworker_descriptors_limit")["0"] > files
    assert operated.samples("uvworker_resident_memory_bytes")["0"] > 1 << 20
    assert operated.samples("uvworker_cpu_seconds_total")["0"] > 0
    assert sum(operated.samples("uvworker_gc_pause_seconds_count").values()) > 0


def test_a_certificate_says_when_it_expires(
    operate: Operate, certificates: Certificates
) -> None:
    operated = operate(HELLO, *certificates.arguments)
    shown = ssl._ssl._test_decode_cert(str(certificates.certfile))  # noqa: SLF001
    expires = ssl.cert_time_to_seconds(shown["notAfter"])
    name = "uvworker_certificate_expiry_timestamp_seconds"
    assert operated.samples(name) == {"0": expires}
