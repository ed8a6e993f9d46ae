"""Machines: a real systemd as process 1 of a container, made of a Debian release.

A root is made once, by debootstrap, and kept in `PLACE`. Each machine boots from it
with an overlay of its own, so it leaves nothing there. Everything here needs root.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tools.service import children_of, wait_for

from .shipped import ROOT

PLACE = Path(os.environ.get("DEPLOY_ROOTS", "/var/tmp/uvworker-deploy"))

# What each release has, to fetch the same wheels as its own pip would.
PYTHONS = {"bookworm": "311", "trixie": "313"}
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,procps,haproxy"

CGROUPS = Path("/sys/fs/cgroup")
HIERARCHIES = [
    path for path in (CGROUPS / "unified", CGROUPS / "systemd") if path.is_dir()
]

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
BOOT = 60.0  # seconds; a second is usual


def need(*programs: str) -> None:
    """Skip a user's test for which a program or root is missing; fail in CI."""
    missing = [program for program in programs if shutil.which(program) is None]
    if os.getuid() != 0:
        missing.append("root")
    if missing:
        say = pytest.fail if "CI" in os.environ else pytest.skip
        say(f"needs {', '.join(missing)}")


@functools.cache
def root(suite: str) -> Path:
    """Return a Debian with this uvworker in ``/opt/app/venv``."""
    need("debootstrap", "systemd-nspawn")
    path = PLACE / suite
    if not (path / "opt/app/venv").exists():
        _make(path, suite)
    wheels = path / "opt/wheels"
    for old in wheels.glob("uvworker-*"):
        old.unlink()
    _pip("wheel", "--no-deps", "--wheel-dir", str(wheels), str(ROOT))
    install = ("install", "-q", "--no-index", "--find-links", "/opt/wheels")
    pip = ("chroot", str(path), "/opt/app/venv/bin/pip", *install)
    run(*pip, "uvworker", "fastapi", "python-multipart")
    run(*pip, "--force-reinstall", "--no-deps", "uvworker")
    return path


def _make(path: Path, suite: str) -> None:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, str(path))
    # For images; a machine has its proxy elsewhere.
    (path / "etc/systemd/system/haproxy.service").symlink_to("/dev/null")
    wheels = path / "opt/wheels"
    wheels.mkdir(parents=True)
    binary = ("--only-binary=:all:", "--python-version", PYTHONS[suite])
    platforms = [f"--platform=manylinux{tag}_x86_64" for tag in ("_2_28", "2014", "1")]
    _pip(
        *("download", *binary, *platforms, "--dest", str(wheels)),
        *("gunicorn", "uvicorn", "httptools", "websockets", "uvloop"),
        *("fastapi", "python-multipart"),
    )
    run("chroot", str(path), "python3", "-m", "venv", "/opt/app/venv")


def _pip(*arguments: str) -> None:
    run(sys.executable, "-m", "pip", "--quiet", *arguments)


def run(*command: str, **kwargs: object) -> str:
    """Run a command that must succeed; return what it printed."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, **kwargs
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Machine:
    """A booted machine; its processes are seen from outside, too."""

    def __init__(self, leader: int) -> None:
        self.leader = leader
        self.network = Path(f"/proc/{leader}/ns/net")
        self.files = Path(f"/proc/{leader}/root")

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        enter = ("nsenter", "-t", str(self.leader), "-a", "env", "-i", f"PATH={PATH}")
        return subprocess.run(
            [*enter, *command], capture_output=True, text=True, check=False, timeout=90
        )

    def do(self, *command: str) -> str:
        done = self.inside(*command)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def write(self, name: str, text: str) -> None:
        path = self.files / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def property(self, unit: str, name: str) -> str:
        return self.do("systemctl", "show", "--value", "--property", name, unit)

    def processes(self, unit: str) -> list[int]:
        """Return the pids of a unit, as they are outside of the machine."""
        own = Path(f"/proc/{self.leader}/cgroup").read_text()
        [path] = re.findall(r"^0::(.*)/init.scope$", own, re.MULTILINE)
        procs = HIERARCHIES[0] / path.lstrip("/") / "system.slice" / unit
        return [int(pid) for pid in (procs / "cgroup.procs").read_text().split()]

    def journal(self) -> str:
        return self.do("journalctl", "--no-pager", "--output=cat", "-b")

    def is_up(self) -> bool:
        state = self.inside("systemctl", "is-system-running").stdout
        return state.strip() in ("running", "degraded")


def _booted(container: int) -> Machine | None:
    """Return the machine once it is up; before that, the child may be another."""
    machines = [Machine(child) for child in children_of(container)]
    return next((booted for booted in machines if booted.is_up()), None)


def _without_requests(journal: str) -> str:
    return "\n".join(line for line in journal.splitlines() if " HTTP/1.1" not in line)


@contextmanager
def machine(suite: str, name: str, directory: Path) -> Iterator[Machine]:
    """Boot a machine for a ``with`` block."""
    # A cgroup of its own, or two systemds would manage each other's units.
    groups = [hierarchy / name for hierarchy in HIERARCHIES]
    for group in groups:
        group.mkdir()
    join = "".join(f"echo $$ > {group}/cgroup.procs; " for group in groups)
    command = [
        *("systemd-nspawn", "--quiet", "--boot", "-D", str(root(suite))),
        *("--volatile=overlay", "--register=no", "--keep-unit", "--private-network"),
        *("--console=pipe", "-M", name),
    ]
    log = directory / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["sh", "-c", join + 'exec "$@"', "sh", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            # Process 1 gets a version 2 of its own where this machine mixes both.
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )
    try:
        booted = wait_for(lambda: _booted(process.pid), "a booted machine", BOOT)
        yield booted
        print(_without_requests(booted.journal()))  # noqa: T201  on failure
    finally:
        process.terminate()  # which nspawn passes on as a power off
        try:
            process.wait(BOOT)
        finally:
            process.kill()
            for group in groups:
                remove_group(group)


def remove_group(group: Path) -> None:
    """Remove a control group without processes, and those in it."""
    for path in sorted(group.rglob("*/"), reverse=True):
        path.rmdir()
    group.rmdir()
