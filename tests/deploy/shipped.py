"""The files of ``conf/``, as a test gives them to the program that reads them.

What a user changes (addresses, names, certificates) is replaced, and must be there to
be replaced. All else is read as it is shipped.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tools.certificates import Certificates
from tests.tools.proxies import STREAM, needs, running
from tests.tools.service import Service, reserved_port

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
APP = "127.0.0.1:8000"  # where every file expects the app

NGINX = """
daemon off; master_process off; pid {directory}/nginx.pid; {user}
error_log stderr warn; events {{ worker_connections 256; }}
"""

NGINX_HTTP = """
http {{
    access_log off; client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    include {file};
}}
"""

CADDY = """{{
	admin off
	skip_install_trust
	http_port {http_port}
	servers {{
		protocols h1 h2
	}}
}}
import {file}
"""


def shipped(name: str, changes: Mapping[str, str], directory: Path) -> Path:
    """Write a file of ``conf/`` into *directory*, with what a user changes changed."""
    text = (CONF / name).read_text()
    for old, new in changes.items():
        assert old in text, f"{name} has no {old!r}"
        text = text.replace(old, new)
    copy = directory / name.replace("/", "-")
    copy.write_text(text)
    return copy


@dataclass(frozen=True, slots=True)
class Site:
    """What a user would change: where the app is, where clients come in, by what name.

    Args:
        directory: for the files of this one test.
        certificates: for ``localhost``.
        apps: addresses of the app as the proxy's file has them.
        port: where clients come in by HTTPS.
        http_port: and by HTTP.

    """

    directory: Path
    certificates: Certificates
    apps: tuple[str, ...]
    port: int
    http_port: int

    @property
    def pem(self) -> Path:
        """The certificate with its key in one file, as haproxy reads it."""
        pem = self.directory / "app.pem"
        certificates = self.certificates
        pem.write_bytes(
            certificates.certfile.read_bytes() + certificates.keyfile.read_bytes()
        )
        return pem


@dataclass(frozen=True, slots=True)
class Front:
    """One proxy: how its file is made for a site, checked and run."""

    name: str
    unix: str  # the prefix of a unix socket's path
    harmless: re.Pattern[str]  # what its check says of any configuration

    def files(self, site: Site) -> list[str]:
        """Write the configuration; return the command that serves it."""
        return _FILES[self.name](site)

    def check(self, command: list[str]) -> str:
        """Return every line in which the program finds fault with its configuration."""
        program, *rest = command
        command = {
            "nginx": [*command, "-t", "-q"],
            "haproxy": [*command, "-c"],
            "caddy": [program, "validate", *rest[1:]],
        }[self.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).splitlines()
        assert done.returncode == 0, lines
        return "\n".join(line for line in lines if not self.harmless.search(line))

    @contextmanager
    def before(
        self, directory: Path, certificates: Certificates, *apps: str
    ) -> Iterator[Site]:
        """Run the proxy in front of *apps*, and make sure that it says no warning."""
        with reserved_port() as port, reserved_port() as http_port:
            site = Site(directory, certificates, apps, port, http_port)
            command = self.files(site)
            assert self.check(command) == ""
            home = {"HOME": str(directory), "XDG_DATA_HOME": str(directory)}
            environment = {**os.environ, **home}
            with running(command, directory, port, http_port, env=environment):
                yield site

    def address(self, service: Service) -> str:
        """Return where *service* is, as the proxy's file has it."""
        path = service.directory / "app.sock"
        return f"{self.unix}{path}" if path.exists() else f"127.0.0.1:{service.port}"


def _nginx(site: Site) -> list[str]:
    servers = [f"    server {app} max_fails=0;" for app in site.apps]
    changes = {
        f"    server {APP} max_fails=0;": "\n".join(servers),
        "listen 80;": f"listen 127.0.0.1:{site.http_port};",
        "listen 443": f"listen 127.0.0.1:{site.port}",
        "app.example.com": "localhost",
        "/etc/ssl/app/fullchain.pem": str(site.certificates.certfile),
        "/etc/ssl/app/privkey.pem": str(site.certificates.keyfile),
    }
    if _nginx_version() >= (1, 25, 1):
        changes["ssl http2;"] = "ssl; http2 on;"
    file = shipped("nginx/app.conf", changes, site.directory)
    return nginx_command(NGINX_HTTP, file, site.directory)


def _nginx_version() -> tuple[int, ...]:
    said = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True)
    found = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", said.stderr)
    assert found, said.stderr
    return tuple(int(part) for part in found.groups())


def nginx_command(block: str, file: Path, directory: Path) -> list[str]:
    """Write the file around *file* that Debian's nginx.conf is for a user."""
    # As the same user, or its temporary files would be another's.
    user = "user root;" if os.getuid() == 0 else ""
    main = directory / "nginx.conf"
    text = NGINX.format(directory=directory, user=user)
    main.write_text(text + block.format(directory=directory, file=file))
    return ["nginx", "-p", str(directory), "-c", str(main)]


def nginx_tcp(site: Site) -> list[str]:
    """Write ``conf/nginx/tcp.conf`` for *site*; return the command that serves it."""
    changes = {APP: site.apps[0], "listen 443;": f"listen 127.0.0.1:{site.port};"}
    file = shipped("nginx/tcp.conf", changes, site.directory)
    module = f"load_module {STREAM};" if STREAM.exists() else ""
    command = nginx_command("include {file};", file, site.directory)
    main = Path(command[-1])
    main.write_text(module + main.read_text())
    return command


def _haproxy(site: Site) -> list[str]:
    servers = [f"    server app{n} {app}" for n, app in enumerate(site.apps, 1)]
    changes = {
        f"    server app1 {APP}": "\n".join(servers),
        "bind :80": f"bind 127.0.0.1:{site.http_port}",
        "bind :443": f"bind 127.0.0.1:{site.port}",
        "app.example.com": "localhost",
        "/etc/haproxy/app.pem": str(site.pem),
        "/run/haproxy/admin.sock": f"{site.directory}/admin.sock",
    }
    file = shipped("haproxy/haproxy.cfg", changes, site.directory)
    return ["haproxy", "-db", "-f", str(file)]


def haproxy_tcp(site: Site) -> list[str]:
    """Write ``conf/haproxy/tcp.cfg`` for *site*; return the command that serves it."""
    changes = {
        APP: site.apps[0],
        "bind :443": f"bind 127.0.0.1:{site.port}",
        "app.example.com": "localhost",
    }
    file = shipped("haproxy/tcp.cfg", changes, site.directory)
    return ["haproxy", "-db", "-f", str(file)]


def _caddy(site: Site) -> list[str]:
    certificates = site.certificates
    changes = {
        "app.example.com {": f"localhost:{site.port} {{\n"
        f"\tbind 127.0.0.1\n\ttls {certificates.certfile} {certificates.keyfile}\n",
        APP: " ".join(site.apps),
    }
    file = shipped("caddy/Caddyfile", changes, site.directory)
    main = site.directory / "Caddyfile"
    main.write_text(CADDY.format(http_port=site.http_port, file=file))
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(main)]


_FILES = {"nginx": _nginx, "haproxy": _haproxy, "caddy": _caddy}

NGINX_FRONT = Front("nginx", "unix:", re.compile("(?!)"))
HAPROXY_FRONT = Front("haproxy", "unix@", re.compile("^Configuration file is valid$"))
CADDY_FRONT = Front(
    "caddy",
    "unix/",
    # A test's certificate names no server that vouches for it.
    re.compile('^Valid configuration$|"level":"info"|no OCSP server specified'),
)

FRONTS = [
    pytest.param(front, marks=needs(front.name), id=front.name)
    for front in (NGINX_FRONT, HAPROXY_FRONT, CADDY_FRONT)
]
