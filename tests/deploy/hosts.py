"""Hosts: network namespaces on a bridge, each with a service; a proxy in another one.

Everything here needs root. What is made is named, and removed again.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.tools.service import PATIENCE, Service, wait_for

from .machines import need, run

PROXY = "uvt-proxy"
PROXY_ADDRESS = "10.99.0.254"
LISTENS_ON_443 = ":01BB 00000000:0000 0A"  # in /proc/net/tcp


class Host:
    """A host with one service, which can be stopped, started and cut off."""

    def __init__(self, number: int, directory: Path, *args: str) -> None:
        self.name = f"uvt-h{number}"
        self.address = f"10.99.0.{number}"
        self.directory = directory
        self.args = args
        self.service: Service | None = None

    @property
    def network(self) -> Path:
        return Path("/run/netns", self.name)

    def start(self, **env: str) -> None:
        """Start the release that is in the directory, and wait until it serves."""
        self.service = Service(
            self.directory,
            *self.args,
            bind=f"{self.address}:8000",
            env=env,
            under=("nsenter", f"--net={self.network}"),
        )
        self.service.log_path.write_text("")
        self.service.ready()

    def stop(self) -> None:
        """Stop it as a deploy does, by TERM, and wait for its end."""
        assert self.service
        assert self.service.stop() == 0

    def cut(self, state: str) -> None:
        """Take its cable out (``down``), or plug it in (``up``)."""
        run("ip", "-n", PROXY, "link", "set", f"v-{self.name}", state)


@contextmanager
def network(hosts: list[Host]) -> Iterator[Path]:
    """Connect *hosts* to a bridge in the proxy's namespace, which is returned."""
    need("ip", "nsenter")
    names = [PROXY, *(host.name for host in hosts)]
    with ExitStack() as stack:
        for name in names:
            run("ip", "netns", "add", name)
            stack.callback(run, "ip", "netns", "del", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        bridge = f"ip -n {PROXY} link add bridge type bridge"
        run(*bridge.split())
        _up(PROXY, "bridge", PROXY_ADDRESS)
        for host in hosts:
            cable = f"ip -n {PROXY} link add v-{host.name} master bridge type veth"
            run(*cable.split(), *f"peer name eth0 netns {host.name}".split())
            _up(PROXY, f"v-{host.name}")
            _up(host.name, "eth0", host.address)
        yield Path("/run/netns", PROXY)


def _up(namespace: str, link: str, address: str = "") -> None:
    if address:
        run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", link)
    run("ip", "-n", namespace, "link", "set", link, "up")


@contextmanager
def proxy(command: list[str], directory: Path) -> Iterator[None]:
    """Run a proxy in its namespace for a ``with`` block."""
    log = directory / "proxy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{PROXY}", *command],
            stdout=output,
            stderr=output,
        )
    try:
        listening = Path(f"/proc/{process.pid}/net/tcp")
        wait_for(
            lambda: LISTENS_ON_443 in listening.read_text() or process.poll(),
            "a proxy that listens",
        )
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait(PATIENCE)
        print(log.read_text()[-5000:])  # noqa: T201  on failure
