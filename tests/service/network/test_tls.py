"""TLS: the context is whole or nothing is served, and the app learns of the client."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import struct
import threading
from typing import Any

import httpx
import pytest
from typing_extensions import Self
from websockets.sync.client import connect

from tests.conftest import HELLO, Serve
from tests.tools.apps import IMPORTED, SCOPE
from tests.tools.certificates import Certificates
from tests.tools.service import PATIENCE, Service, wait_for

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
REQUIRED = str(ssl.CERT_REQUIRED.value)

# The whole of TLS in gunicorn.conf.py, with no certfile at all.
HOOK_ALONE = """
def ssl_context(conf, default_ssl_context_factory):
    import ssl
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain("cert.pem", "key.pem")
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
"""


def get(
    service: Service, context: ssl.SSLContext, path: str = "/", **kwargs: Any
) -> httpx.Response:
    url = f"https://localhost:{service.port}{path}"
    return httpx.get(url, verify=context, timeout=PATIENCE, **kwargs)


# The context


def test_certfile_and_keyfile_are_served(
    serve: Serve, certificates: Certificates
) -> None:
    service = serve(SCOPE, *certificates.arguments)
    told = get(service, certificates.client()).json()
    assert told["scheme"] == "https"
    assert told["tls"]["client_cert_chain"] == []
    assert told["tls"]["server_cert"] == certificates.certfile.read_text()
    assert service.stop() == 0


def test_the_app_sees_the_clients_certificate(
    serve: Serve, certificates: Certificates
) -> None:
    service = serve(
        SCOPE,
        *certificates.arguments,
        *("--ca-certs", str(certificates.ca_certs), "--cert-reqs", REQUIRED),
    )
    told = get(service, certificates.client("ann")).json()["tls"]
    assert "CN=ann" in told["client_cert_name"]
    assert told["client_cert_chain"][0].startswith("-----BEGIN CERTIFICATE-----")


def test_a_websocket_sees_the_clients_certificate(
    serve: Serve, certificates: Certificates
) -> None:
    service = serve(
        SCOPE,
        *certificates.arguments,
        *("--ca-certs", str(certificates.ca_certs), "--cert-reqs", REQUIRED),
    )
    url = f"wss://localhost:{service.port}/"
    with connect(url, ssl=certificates.client("ann"), open_timeout=PATIENCE) as ws:
        told = json.loads(ws.recv(PATIENCE))
    assert told["scheme"] == "wss"
    assert "CN=ann" in told["tls"]["client_cert_name"]


def test_a_client_without_the_certificate_that_cert_reqs_wants_is_not_served(
    serve: Serve, certificates: Certificates
) -> None:
    service = serve(
        HELLO,
        *certificates.arguments,
        *("--ca-certs", str(certificates.ca_certs), "--cert-reqs", REQUIRED),
    )
    with pytest.raises(httpx.TransportError):
        get(service, certificates.client())
    assert get(service, certificates.client("ann")).status_code == 200


def test_only_the_ciphers_that_are_set_are_spoken(
    serve: Serve, certificates: Certificates
) -> None:
    cipher = "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384"
    service = serve(HELLO, *certificates.arguments, "--ciphers", cipher)
    client = certificates.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with certificates.connect(service.port, client) as connection:
        assert (connection.cipher() or ("",))[0] in cipher.split(":")
    client.set_ciphers("ECDHE+AES128")
    with pytest.raises(ssl.SSLError):
        certificates.connect(service.port, client)


def test_the_hook_has_the_last_word(serve: Serve, certificates: Certificates) -> None:
    conf = """
def ssl_context(conf, default_ssl_context_factory):
    import ssl
    context = default_ssl_context_factory()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
"""
    service = serve(HELLO, *certificates.arguments, conf=conf)
    assert get(service, certificates.client()).status_code == 200
    old = certificates.client()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        certificates.connect(service.port, old)


def test_the_hook_alone_is_enough(serve: Serve, certificates: Certificates) -> None:
    service = serve(SCOPE, conf=HOOK_ALONE)
    told = get(service, certificates.client()).json()
    assert (told["scheme"], told["tls"]["tls_version"]) == ("https", 0x0304)
    with socket.create_connection(("127.0.0.1", service.port)) as plain:
        plain.settimeout(PATIENCE)
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not plain.recv(99).startswith(b"HTTP")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can change the user")
def test_a_key_that_only_root_may_read_serves_as_nobody(
    serve: Serve, certificates: Certificates
) -> None:
    """The user `nobody` may not read the directory, so only HUP can renew the files."""
    # Preloaded, because only root may read the test's directory, too.
    arguments = [*certificates.arguments, "--preload", "--user", "nobody"]
    service = serve(IMPORTED + SCOPE, *arguments)
    assert get(service, certificates.client()).json()["scheme"] == "https"
    service.wait_log(r"uid \d+ may not read \S+cert.pem; send HUP to renew it\.")
    renewed = certificates.renew()
    service.kill(signal.SIGHUP)
    service.ready(2)
    wait_for(lambda: certificates.shown(service.port) == renewed, "the new one")
    assert "ERROR" not in service.log


def test_a_password_opens_the_key(serve: Serve, certificates: Certificates) -> None:
    certificates.encrypt("s3cret")
    service = serve(
        HELLO,
        *certificates.arguments,
        env={"UVICORN_SSL_KEYFILE_PASSWORD": "s3cret"},
    )
    assert get(service, certificates.client()).status_code == 200
    assert "s3cret" not in service.log


# It fails closed


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("no file", r"certfile \S+ cannot be read"),
        ("wrong key", r"keyfile \S+ is not the key of certfile"),
        ("encrypted", r"set the option ssl_keyfile_password"),
        ("hook", r"cannot be built: RuntimeError: no luck"),
    ],
)
def test_no_context_no_service(
    serve: Serve, certificates: Certificates, fault: str, sentence: str
) -> None:
    """The worker says why, once; the arbiter halts with 3 instead of trying on."""
    conf, arguments = "", certificates.arguments
    if fault == "no file":
        # gunicorn looks for it itself, but only at the command line's.
        conf, arguments = f"certfile = '{certificates.certfile}'", []
        conf += f"\ndef when_ready(server):\n    {REMOVE}"
    elif fault == "wrong key":
        first = certificates.certfile.read_bytes()
        certificates.renew()
        certificates.certfile.write_bytes(first)
    elif fault == "encrypted":
        certificates.encrypt("s3cret")
    else:
        conf = "def ssl_context(conf, factory):\n    raise RuntimeError('no luck')"
    service = serve(HELLO, *arguments, "-w", "2", conf=conf, wait=0)
    assert service.wait_exit() == 3
    said = service.wait_log(sentence)
    # gunicorn 23 may lose the halt; the next worker to fail halts then.
    if "Exception ignored in" not in service.log:
        assert len(said) == 1
        assert service.log.count("Booting worker") <= 2, "a crash loop"


REMOVE = "import os; os.remove(server.cfg.certfile)"


# Who does not speak it


def test_garbage_on_the_port_costs_one_line(
    serve: Serve, certificates: Certificates
) -> None:
    service = serve(HELLO, *certificates.arguments)
    with service.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while connection.recv(4096):
            pass
    assert get(service, certificates.client()).status_code == 200
    after = service.log.partition("startup complete (worker 0).\n")[2]
    assert "Traceback" not in after
    assert len(after.splitlines()) == 1, after


def test_a_stalled_handshake_is_dropped(
    serve: Serve, certificates: Certificates
) -> None:
    service = serve(HELLO, *certificates.arguments)
    with service.connect() as silent:
        silent.sendall(b"\x16\x03\x01")  # a record begins, and never ends
        assert get(service, certificates.client()).status_code == 200
        assert not silent.recv(1)


def test_a_stop_does_not_wait_for_clients_that_keep_connections_in_a_pool(
    serve: Serve, certificates: Certificates
) -> None:
    """Such a client sees the end of TLS at its next request, and not before."""
    service = serve(HELLO, *certificates.arguments, "--graceful-timeout", "60")
    with certificates.connect(service.port) as pooled:
        pooled.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert pooled.recv(4096).startswith(b"HTTP/1.1 200")
        assert service.stop() == 0  # within PATIENCE, which is less than 60 s


# Renewal


class Load:
    """Requests without a pause, each on a connection of its own."""

    def __init__(self, service: Service, context: ssl.SSLContext) -> None:
        self._service, self._context = service, context
        self._stopped = threading.Event()
        self.served, self.failed = 0, list[Exception]()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                get(self._service, self._context).raise_for_status()
                self.served += 1
            except Exception as error:  # noqa: BLE001, PERF203  reported by the test
                self.failed.append(error)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopped.set()
        self._thread.join()

    def more(self, count: int) -> None:
        """Wait until so many more requests have been answered."""
        goal = self.served + count
        wait_for(lambda: self.served >= goal or self.failed, f"{count} more requests")


def test_a_renewed_certificate_is_taken_up_without_a_reload_or_a_failed_request(
    serve: Serve, certificates: Certificates
) -> None:
    service = serve(HELLO, *certificates.arguments, "-w", "2", wait=2)
    workers = service.workers()
    with Load(service, certificates.client()) as load:
        load.more(5)
        renewed = certificates.renew()
        service.wait_log("The renewed certificate is in use", 2)
        load.more(5)
    assert load.failed == []
    assert certificates.shown(service.port) == renewed
    assert service.workers() == workers


def test_a_broken_renewal_is_reported_and_the_old_certificate_kept(
    serve: Serve, certificates: Certificates
) -> None:
    service = serve(HELLO, *certificates.arguments)
    old = certificates.shown(service.port)
    certificates.certfile.write_text("oops")
    service.wait_log(r"\[ERROR\] The old certificate stays in use: certfile .*cert.pem")
    assert certificates.shown(service.port) == old
    renewed = certificates.renew()
    service.wait_log("The renewed certificate is in use")
    assert certificates.shown(service.port) == renewed


def test_a_reload_takes_up_a_certificate_and_fails_no_request(
    serve: Serve, certificates: Certificates
) -> None:
    service = serve(HELLO, conf=HOOK_ALONE)  # whose files nobody watches
    with Load(service, certificates.client()) as load:
        load.more(5)
        renewed = certificates.renew()
        service.kill(signal.SIGHUP)
        service.ready(2)
        wait_for(lambda: certificates.shown(service.port) == renewed, "the new one")
        load.more(5)
    assert load.failed == []


def test_a_reload_with_a_broken_certificate_leaves_the_old_workers_serving(
    serve: Serve, certificates: Certificates
) -> None:
    service = serve(HELLO, "--graceful-timeout", "3", conf=HOOK_ALONE)
    old = certificates.shown(service.port)
    certificates.certfile.write_text("oops")
    service.kill(signal.SIGHUP)
    service.wait_log("cannot start: the TLS context cannot be built: SSLError")
    service.wait_log("serves on instead")
    assert certificates.shown(service.port) == old
    renewed = certificates.renew()
    service.kill(signal.SIGHUP)
    service.ready(2)
    wait_for(lambda: certificates.shown(service.port) == renewed, "the new one")


# An app that never waits

TIGHT = """
async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "bytes": bytes(16384)})
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while scope["path"] == "/stream":
        await send({"type": "http.response.body", "body": bytes(16384),
                    "more_body": True})
    await send({"type": "http.response.body", "body": b"served"})
"""

UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
IMPATIENT = "--timeout", "5", "--graceful-timeout", "1"
ON_ASYNCIO = "import sys; sys.modules['uvloop'] = None"


@pytest.mark.parametrize("further", ["", UPGRADE], ids=["http", "websocket"])
@pytest.mark.parametrize("conf", ["", ON_ASYNCIO], ids=["uvloop", "asyncio"])
def test_a_client_that_leaves_an_app_that_never_waits_hangs_nobody(
    serve: Serve, certificates: Certificates, conf: str, further: str
) -> None:
    """The loop has to turn for the transport to learn of it."""
    service = serve(TIGHT, *certificates.arguments, *IMPATIENT, conf=conf)
    context = certificates.client()
    for _ in range(5):
        wrapped = context.wrap_socket(service.connect(), server_hostname="localhost")
        with wrapped as client:
            client.sendall(f"GET /stream HTTP/1.1\r\nHost: h\r\n{further}\r\n".encode())
            received = 0
            while received < 20_000_000:
                received += len(client.recv(1 << 18))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        assert get(service, context).text == "served"
    assert "WORKER TIMEOUT" not in service.log
    assert "raised exception" not in service.log
