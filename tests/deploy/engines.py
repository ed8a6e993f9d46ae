"""A Docker engine of a test's own, in a network namespace of its own.

It reaches nothing outside: an image that is missing fails at once. The images that the
shipped files begin with are stand-ins, made of the Debian that machines boot from. Its
pip finds packages in ``/opt/wheels``. Everything here needs root.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.tools.service import wait_for

from .machines import CGROUPS, PLACE, need, remove_group, root, run

START = 60.0  # seconds

# What a machine has and no image needs.
LEFT_OUT = ("proc", "sys", "dev", "run", "opt/app", "var/cache", "var/lib/apt")

PIP = "[global]\nno-index = true\nfind-links = /opt/wheels\n"
BASE = """
FROM stand-in
COPY wheels /opt/wheels
COPY pip.conf /etc/pip.conf
"""


class Docker:
    """The engine, by its command line."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.network = Path("/run/netns", name)
        self.environ = {
            **os.environ,
            "DOCKER_HOST": f"unix://{directory}/sock",
            "DOCKER_CONFIG": str(plugins()),
            "BUILDKIT_PROGRESS": "plain",
        }

    def do(self, *command: str, **environ: str) -> str:
        return run("docker", *command, env={**self.environ, **environ}).strip()

    def fails(self, *command: str, **environ: str) -> str:
        done = subprocess.run(
            ["docker", *command],
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0, done.stdout
        return done.stdout + done.stderr

    def is_up(self) -> bool:
        done = subprocess.run(
            ["docker", "info"], env=self.environ, capture_output=True, check=False
        )
        return done.returncode == 0

    def import_base(self) -> None:
        """Make the images that the shipped files begin with, from the Debian root."""
        debian = root("trixie")
        excluded = " ".join(f"--exclude=./{path}/*" for path in LEFT_OUT)
        pack = f"tar -C {debian} {excluded} -c . | docker import - stand-in"
        run("sh", "-c", pack, env=self.environ)
        context = self.directory / "base"
        shutil.copytree(debian / "opt/wheels", context / "wheels")
        (context / "pip.conf").write_text(PIP)
        (context / "Dockerfile").write_text(BASE)
        self.build("python:3.13-slim", context)
        self.do("tag", "stand-in", "haproxy:3.0")

    def build(self, name: str, context: Path) -> None:
        self.do("build", "-q", "--network=none", "-t", name, str(context))


@functools.cache
def plugins() -> Path:
    """Return a Docker configuration with Compose and buildx, as trixie has them."""
    path = PLACE / "docker"
    if not (path / "cli-plugins").exists():
        with tempfile.TemporaryDirectory() as directory:
            _fetch_plugins(Path(directory), path / "cli-plugins")
    return path


def _fetch_plugins(work: Path, goal: Path) -> None:
    mirror = run("sh", "-c", MIRROR).strip()
    (work / "sources.list").write_text(f"deb {mirror} trixie main\n")
    for place in ("lists/partial", "archives/partial"):
        (work / place).mkdir(parents=True)
    options = {
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": work / "lists",
        "Dir::Cache": work,
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    run(*apt, "update")
    run(*apt, "download", "docker-compose", "docker-buildx", cwd=work)
    for package in work.glob("*.deb"):
        run("dpkg", "-x", str(package), str(work / "unpacked"))
    goal.parent.mkdir(parents=True, exist_ok=True)
    found = work / "unpacked/usr/libexec/docker/cli-plugins"
    shutil.copytree(found, goal)


MIRROR = (
    "apt-get indextargets --format '$(REPO_URI)' 'Label: Debian' 'Component: main' | "
    "sort -u | head -n 1"
)


@contextmanager
def engine(name: str) -> Iterator[Docker]:
    """Run a Docker engine in the network namespace *name* for a ``with`` block."""
    need("docker", "dockerd", "debootstrap", "ip", "nsenter")
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix=name) as work:
        directory = Path(work)
        docker = Docker(directory, name)
        run("ip", "netns", "add", name)
        try:
            run("ip", "-n", name, "link", "set", "lo", "up")
            with _daemon(docker, directory):
                docker.import_base()
                yield docker
        finally:
            run("ip", "netns", "del", name)


@contextmanager
def _daemon(docker: Docker, directory: Path) -> Iterator[None]:
    command = [
        *("nsenter", f"--net={docker.network}"),
        *("unshare", "--mount", "--propagation", "private"),
        *("dockerd", "--data-root", str(directory / "data")),
        *("--exec-root", str(directory / "exec"), "--pidfile", str(directory / "pid")),
        *("-H", f"unix://{directory}/sock"),
        # From the root: a relative one would be in each of the groups of this process.
        *("--cgroup-parent", f"/{docker.network.name}"),
    ]
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_for(lambda: docker.is_up() or process.poll() is not None, "dockerd", START)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()  # it stops its containers and its containerd
        process.wait(START)
        for group in CGROUPS.glob(f"*/{docker.network.name}"):
            remove_group(group)
