"""The operator's listener: it answers when the app cannot, and says what is true."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from typing_extensions import Self

from tests.conftest import HELLO, Serve
from tests.service.operations.conftest import Operate, Operated
from tests.tools.apps import LIFE, SLOW_IMPORT
from tests.tools.service import PATIENCE, wait_for

# Blocks its loop for as long as the file is there.
BLOCKS = """
import pathlib, time

async def app(scope, receive, send):
    assert scope["type"] == "http"
    while pathlib.Path("hold-loop").exists():
        time.sleep(0.02)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"Hello, world!"})
"""


class Watch:
    """Asks a probe without a pause, until it is left; `statuses` is what it said."""

    def __init__(self, operated: Operated, path: str) -> None:
        self.statuses: list[int] = []
        self._operated, self._path = operated, path
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        while not self._over.is_set():
            self.statuses.append(self._operated.asked(self._path))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(PATIENCE)


def test_it_answers_while_the_app_is_imported(operate: Operate, tmp_path: Path) -> None:
    hold = tmp_path / "hold-import"
    hold.touch()
    operated = operate(SLOW_IMPORT, wait=0)
    assert operated.wait("/readyz", 503).text == "worker 0 is booting\n"
    assert operated.asked("/livez") == 200
    assert operated.ask("/startupz").text == "0 of 1 workers have served\n"
    hold.unlink()
    operated.service.ready()
    operated.wait("/startupz", 200)  # a moment behind the log
    assert {operated.asked(p) for p in ("/livez", "/readyz", "/startupz")} == {200}


def test_it_says_that_the_loop_of_the_only_worker_is_blocked(
    operate: Operate, tmp_path: Path
) -> None:
    operated = operate(BLOCKS)
    hold = tmp_path / "hold-loop"
    hold.touch()
    request = operated.service.begin()
    unready = operated.wait("/readyz", 503)
    assert unready.text.startswith("worker 0 had no heartbeat for ")
    assert operated.asked("/livez") == 200  # the arbiter will see to it
    hold.unlink()
    assert request.getresponse().status == 200
    operated.wait("/readyz", 200)


def test_a_reload_never_makes_it_unready(operate: Operate, tmp_path: Path) -> None:
    operated = operate(LIFE, "-w", "2", wait=2)
    old = operated.service.workers()
    hold = tmp_path / "hold-startup"
    hold.touch()
    with Watch(operated, "/readyz") as watch:
        operated.service.kill(signal.SIGHUP)
        operated.service.wait_said("startup", 4)
        before = len(watch.statuses)
        wait_for(lambda: len(watch.statuses) > before + 20, "probes meanwhile")
        hold.unlink()
        for worker in old:
            operated.service.wait_gone(worker)
    assert set(watch.statuses) == {200}


def test_no_probe_is_lost_when_workers_change(operate: Operate) -> None:
    """A worker may accept a probe in the turn of its loop in which it stops."""
    operated = operate(HELLO, "-w", "2", wait=2)
    watches = [Watch(operated, "/readyz") for _ in range(4)]
    with ExitStack() as stack:
        for watch in watches:
            stack.enter_context(watch)
        for reload in range(1, 9):
            operated.service.kill(signal.SIGHUP)
            operated.service.ready(2 + 2 * reload)
            wait_for(lambda: len(operated.service.workers()) == 2, "the old are gone")
    assert {status for watch in watches for status in watch.statuses} == {200}


def test_a_stop_makes_it_unready_while_requests_are_still_answered(
    operate: Operate, tmp_path: Path
) -> None:
    hold = tmp_path / "hold-request"
    hold.touch()
    operated = operate(LIFE)
    request = operated.service.begin()
    operated.service.wait_said("request")
    operated.service.kill(signal.SIGTERM)
    operated.wait("/readyz", 503)
    assert operated.asked("/livez") == 200
    hold.unlink()
    assert request.getresponse().status == 200
    assert operated.service.wait_exit() == 0


def test_with_a_drain_delay_it_is_unready_while_connections_are_accepted(
    operate: Operate,
) -> None:
    conf = "import uvworker\nworker_class = uvworker.Worker.configured(drain_delay=600)"
    operated = operate(HELLO, "--graceful-timeout", "20", conf=conf, worker="")
    operated.service.kill(signal.SIGTERM)
    operated.wait("/readyz", 503)
    assert operated.service.get().status_code == 200


def test_totals_never_fall_and_are_what_was_sent(operate: Operate) -> None:
    """Over a worker killed by -9, a reload, and workers that recycle."""
    operated = operate(HELLO, "-w", "2", "--max-requests", "30", wait=2)
    service, sent = operated.service, 0

    def send(count: int) -> None:
        nonlocal sent
        for _ in range(count):
            assert service.get().status_code == 200
        sent += count
        wait_for(lambda: operated.counted() == sent, f"{sent} requests counted")

    send(20)
    killed = service.workers()[0]
    service.kill(signal.SIGKILL, killed)
    service.ready(3)
    send(20)
    old = service.workers()
    service.kill(signal.SIGHUP)
    for worker in old:
        service.wait_gone(worker)
    assert operated.counted() == sent
    send(80)
    service.wait_log("Recycling worker")
    exits = operated.samples("uvworker_worker_exits_total")
    assert exits["killed/SIGKILL"] == 1
    assert exits["term"] == 2
    wait_for(
        lambda: operated.samples("uvworker_worker_exits_total")["max_requests"] > 0,
        "a recycled worker counted",
    )


def test_what_the_protocol_refuses_is_counted(operate: Operate) -> None:
    operated = operate()
    with operated.service.connect() as client:
        client.sendall(b"GET / HTTP/9.9\r\n\r\n")
        assert b" 400 " in client.recv(1000)
    name = "http_server_request_duration_seconds_count"
    wait_for(lambda: operated.samples(name) == {"GET/4xx": 1}, "the refusal counted")


def test_the_backlog_is_what_waits_in_the_listener(
    operate: Operate, tmp_path: Path
) -> None:
    operated = operate(BLOCKS, "--backlog", "100")
    (tmp_path / "hold-loop").touch()
    operated.service.begin()
    operated.wait("/readyz", 503)
    clients = [operated.service.connect() for _ in range(7)]
    address = f"127.0.0.1:{operated.service.port}"
    assert operated.samples("uvworker_backlog") == {address: 7}
    assert operated.samples("uvworker_backlog_limit") == {address: 100}
    for client in clients:
        client.close()
    (tmp_path / "hold-loop").unlink()


def test_status_json_says_what_each_worker_does(operate: Operate) -> None:
    operated = operate(LIFE, "-w", "2", wait=2)
    operated.wait("/startupz", 200)  # a moment behind the log
    status = operated.ask("/status.json").json()
    assert (status["live"], status["ready"], status["started"]) == (True, True, True)
    assert {worker["pid"] for worker in status["workers"]} == set(
        operated.service.workers()
    )
    assert {worker["state"] for worker in status["workers"]} == {"serving"}
    assert all(worker["rss"] > 1 << 20 for worker in status["workers"])


def status_of(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "uvworker", "status", *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=PATIENCE
    )


def test_a_terminal_shows_each_worker(operate: Operate) -> None:
    operated = operate(LIFE, "-w", "2", wait=2)
    operated.wait("/startupz", 200)  # a moment behind the log
    address = operated.url.removeprefix("http://")
    shown = status_of(address)
    assert shown.returncode == 0
    assert shown.stdout.startswith("ready: 2 of 2 workers serve\n0 requests in flight")
    rows = [line.split() for line in shown.stdout.splitlines()[-2:]]
    assert {int(row[1]) for row in rows} == set(operated.service.workers())
    assert [row[2] for row in rows] == ["serving", "serving"]
    assert json.loads(status_of(address, "--json").stdout)["ready"] is True
    assert status_of(address, "--quiet").stdout == ""


def test_a_script_is_told_by_the_exit_code(operate: Operate, tmp_path: Path) -> None:
    (tmp_path / "hold-startup").touch()
    operated = operate(LIFE, wait=0)
    operated.service.wait_said("startup")
    assert status_of(operated.url.removeprefix("http://"), "--quiet").returncode == 1
    (tmp_path / "hold-startup").unlink()


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "unix:/nowhere/there"])
def test_a_terminal_says_where_nobody_answers(port: int, address: str) -> None:
    asked = status_of(address.format(port=port))
    assert asked.returncode == 1
    assert f"No uvworker answers on {address.format(port=port)}: " in asked.stderr


def test_a_probe_is_answered_with_json_where_it_is_asked_for(operate: Operate) -> None:
    operated = operate()
    well = {"status": "ok", "reasons": [], "problems": []}
    assert operated.ask("/readyz", accept="application/json").json() == well
    assert operated.ask("/readyz?verbose").json() == well
    kind = operated.ask(
        "/metrics", accept="application/openmetrics-text; version=1.0.0"
    )
    assert kind.headers["content-type"].startswith("application/openmetrics-text")
    assert kind.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", b"405"),
        (b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"421"),
        (b"GET /metrics HTTP/1.1\r\nHost: [::1]:9\r\n\r\n", b"200"),
        (b"GET /livez HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /%00%ff HTTP/1.1\r\nHost: a\r\n\r\n", b"421"),
        (b"\x16\x03\x01\x02\x00", b"400"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"414"),
    ],
)
def test_nothing_that_it_is_sent_hurts(
    operate: Operate, request_: bytes, status: bytes
) -> None:
    operated = operate()
    with socket.create_connection(("127.0.0.1", int(operated.url[17:]))) as client:
        client.settimeout(PATIENCE)
        client.sendall(request_)
        assert client.recv(100).split(b" ")[1] == status
    assert operated.asked("/readyz") == 200
    assert "Traceback" not in operated.service.log


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("0.0.0.0:{port}", "can be reached from other machines"),
        ("127.0.0.1", "is '127.0.0.1'; allowed"),
        ("127.0.0.1:{taken}", "Address already in use"),
        ("unix:/nowhere/there", "No such file or directory"),
    ],
)
def test_an_address_that_cannot_be_used_refuses_the_start_in_one_line(
    serve: Serve, port: int, address: str, what: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        bind = address.format(port=port, taken=taken)
        service = serve(env={"UVWORKER_OPS_BIND": bind}, wait=0)
        assert service.wait_exit() == 1
    [line] = [line for line in service.log.splitlines() if line.startswith("Error: ")]
    assert what in line
    assert "Traceback" not in service.log


def test_a_public_address_is_bound_where_its_network_is_trusted(
    serve: Serve, port: int
) -> None:
    bind = {"UVWORKER_OPS_BIND": f"0.0.0.0:{port}", "UVWORKER_OPS_PUBLIC": "true"}
    operated = Operated(serve(env=bind), port)
    assert operated.ask("/readyz", host="service.example").status_code == 200


def test_a_unix_socket_is_its_owners_alone_and_goes_with_the_service(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "ops.sock"
    service = serve(env={"UVWORKER_OPS_BIND": f"unix:{path}"})
    assert path.stat().st_mode & 0o777 == 0o600
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    connection.request("GET", "/readyz")
    assert connection.getresponse().status == 200
    connection.close()
    assert service.stop() == 0
    assert not path.exists()


def test_a_reload_takes_up_another_address(serve: Serve, tmp_path: Path) -> None:
    conf = "import uvworker\nworker_class = uvworker.Worker.configured(ops_bind={!r})"
    first, second = (f"unix:{tmp_path}/{name}" for name in ("first", "second"))
    service = serve(conf=conf.format(first), worker="")
    config = tmp_path / "gunicorn.conf.py"
    config.write_text(config.read_text().replace(first, second))
    service.kill(signal.SIGHUP)
    service.ready(2)
    assert (tmp_path / "second").exists()


THREADS = """
import threading
from contextlib import ExitStack

async def app(scope, receive, send):
    assert scope["type"] == "http"
    names = ",".join(thread.name for thread in threading.enumerate())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": names.encode()})
"""


def test_without_it_there_is_no_thread_of_it(serve: Serve) -> None:
    assert serve(THREADS).get().text == "MainThread,uvworker-stalls"


def test_with_it_there_is_one_more(operate: Operate) -> None:
    threads = operate(THREADS).service.get().text
    assert threads == "MainThread,uvworker-operations,uvworker-stalls"


def test_the_apps_own_port_says_when_to_send_no_more(serve: Serve) -> None:
    """For all of `drain_delay`, while other requests are still served."""
    conf = """
        import uvworker
        worker_class = uvworker.Worker.configured(
            drain_delay=600, ready_path="/-/ready", live_path="/-/live"
        )
        """
    service = serve(
        HELLO, "--graceful-timeout", "20", "--access-logfile", "-", conf=conf, worker=""
    )
    assert service.get("/-/ready").text == "ok\n"
    assert service.get("/-/live?verbose").json()["status"] == "ok"
    service.kill(signal.SIGTERM)
    unready = wait_for(
        lambda: (answer := service.get("/-/ready")).status_code == 503 and answer,
        "the port says that it is not ready",
    )
    assert unready.text == "worker 0 is stopping\n"
    assert service.get("/-/live").status_code == 200
    assert service.get("/-/else").text == "Hello, world!"
    assert service.wait_exit() == 0
    assert "/-/else" in service.out
    assert "/-/ready" not in service.out


def test_a_root_path_is_in_front_of_probes_too(serve: Serve) -> None:
    conf = "import uvworker; worker_class = uvworker.Worker.configured("
    conf += "root_path='/api', ready_path='/-/ready')"
    assert serve(HELLO, conf=conf, worker="").get("/-/ready").text == "ok\n"
