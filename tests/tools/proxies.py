"""Real proxies in front of a service: nginx and haproxy, one process for one test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .service import PATIENCE, alive, reserved_port, wait_for

STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")  # Debian's place for it

NGINX = """
daemon off; master_process off; pid {directory}/nginx.pid;
error_log stderr warn;
{modules}
events {{ worker_connections 64; }}
{blocks}
"""

HTTP = """
http {{
    access_log off; client_max_body_size 100m; client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto https;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $http_connection;
        location / {{ proxy_pass http://{upstream}; }}
        location /app {{
            proxy_set_header SCRIPT_NAME /app;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_pass http://{upstream};
        }}
    }}
}}
"""

TCP = """
stream {{
    server {{ listen 127.0.0.1:{port}; proxy_pass {upstream}; proxy_protocol on; }}
}}
"""

HAPROXY = """
defaults
    mode {mode}
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout tunnel 30s
listen front
    bind 127.0.0.1:{port}
    {http}
    server back {upstream} {options}
"""

HAPROXY_HTTP = """
    option forwardfor
    http-reuse always
    http-request set-header X-Forwarded-Proto https
"""


def needs(program: str) -> pytest.MarkDecorator:
    """Skip where *program* is not installed, but not in CI, which has to have it."""
    missing = shutil.which(program) is None and "CI" not in os.environ
    return pytest.mark.skipif(missing, reason=f"{program} is not installed")


needs_nginx, needs_haproxy = needs("nginx"), needs("haproxy")


@contextmanager
def nginx(directory: Path, upstream: str, *, stream: bool = False) -> Iterator[int]:
    """Run nginx in front of *upstream*, ``host:port`` or ``unix:PATH``; its port.

    *stream*: pass TCP on, with a PROXY header.
    """
    module = f"load_module {STREAM};" if stream and STREAM.exists() else ""
    conf = directory / "nginx.conf"
    command = ["nginx", "-p", str(directory), "-c", str(conf)]
    with reserved_port() as port:
        block = (TCP if stream else HTTP).format(
            directory=directory, port=port, upstream=upstream
        )
        conf.write_text(NGINX.format(directory=directory, modules=module, blocks=block))
        # As the same user, or its temporary files would be another's.
        if os.getuid() == 0:
            conf.write_text("user root;" + conf.read_text())
        with running(command, directory, port):
            yield port


@contextmanager
def haproxy(
    directory: Path, upstream: str, *options: str, mode: str = "http"
) -> Iterator[int]:
    """Run haproxy in front of *upstream*, ``host:port`` or ``unix@PATH``; its port."""
    conf = directory / "haproxy.cfg"
    http = HAPROXY_HTTP if mode == "http" else ""
    with reserved_port() as port:
        conf.write_text(
            HAPROXY.format(
                mode=mode,
                http=http,
                port=port,
                upstream=upstream,
                options=" ".join(options),
            )
        )
        with running(["haproxy", "-db", "-f", str(conf)], directory, port):
            yield port


@contextmanager
def running(
    command: list[str],
    directory: Path,
    *ports: int,
    env: dict[str, str] | None = None,
) -> Iterator[None]:
    """Run a proxy that listens on *ports* of the loopback for a ``with`` block."""
    log = directory / f"{command[0]}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=env)
    try:
        wait_for(
            lambda: all(map(_listens, ports)) or not alive(process.pid),
            f"ports {ports}",
        )
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)
        print(f"--- {log.name}\n{log.read_text()}")  # noqa: T201  on failure


def _listens(port: int) -> bool:
    """Whether somebody listens; the connection says nothing, as a probe's."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
