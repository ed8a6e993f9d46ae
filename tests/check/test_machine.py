"""``python -m uvworker check``: what it says of machine, engine and proxy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import trustme

from uvworker.machine import shortages
from uvworker.machine.cpus import usable_cpus

COMMAND = [sys.executable, "-m", "uvworker", "check", "-k", "uvworker.Worker"]
APP = "async def app(scope, receive, send): ...\n"
QUIET = ("--worker-tmp-dir", "/dev/shm", "--backlog", "64", "-w", "1")


class Checked:
    def __init__(self, directory: Path, *args: str, **environ: str) -> None:
        (directory / "main.py").write_text(APP)
        done = subprocess.run(
            [*COMMAND, "--json", *QUIET, *args, "main:app"],
            cwd=directory,
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            check=False,
        )
        self.code = done.returncode
        self.report = json.loads(done.stdout)
        self.machine = self.report["machine"]
        self.problems = self.report["problems"]


def test_nothing_is_said_of_what_fits(tmp_path: Path) -> None:
    fitting = ("--stop-timeout", "31", "--proxy-keepalive", "1")
    checked = Checked(tmp_path, *fitting)
    assert (checked.code, checked.machine, checked.problems) == (0, [], [])
    names = {"settings", "options", "no_effect", "machine", "problems"}
    assert set(checked.report) == names


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--stop-timeout", "30"), "graceful_timeout = 30, but the service is killed"),
        (("--stop-timeout=10.5",), "after 10.5 s"),
        (("--proxy-keepalive", "60"), "Set keepalive to 75"),
        (("--proxy-keepalive", "5", "--keep-alive", "5"), "keepalive = 5, but"),
        (("--backlog", "100000000"), "net.core.somaxconn"),
        (("-w", str(usable_cpus() + 1)), f"WEB_CONCURRENCY={usable_cpus()}"),
        (("--worker-connections", "100000000"), "file descriptors"),
    ],
)
def test_what_does_not_fit_is_named_with_what_to_set(
    tmp_path: Path, args: tuple[str, ...], sentence: str
) -> None:
    """It is no reason to fail: the service would start."""
    checked = Checked(tmp_path, *args)
    assert checked.code == 0
    assert len(checked.machine) == 1, checked.machine
    assert sentence in checked.machine[0]


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        (
            "--stop-timeout=nonsense.service",
            "'nonsense.service' is neither seconds nor a service that systemd knows",
        ),
        ("--stop-timeout=nan", "'nan' is neither"),
        ("--proxy-keepalive=-1", "'-1' is no number of seconds"),
    ],
)
def test_an_argument_that_is_no_time_is_refused(argument: str, sentence: str) -> None:
    done = subprocess.run(
        [*COMMAND, argument], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert sentence in done.stderr


def test_heartbeats_on_a_disk_are_named(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/a rw\n"
        "2 1 0:5 / /dev/shm rw,nosuid shared:3 - tmpfs tmpfs rw\n"
        f"3 1 0:6 / {tmp_path} rw - overlay overlay rw\n"
        "4 1 0:7 / /dev rw - devtmpfs udev rw\n"
    )
    assert "(ext4)" in shortages.heartbeats("/", mounts)
    assert "(overlay)" in shortages.heartbeats(str(tmp_path / "a"), mounts)
    assert shortages.heartbeats("/dev/shm", mounts) == ""
    assert shortages.heartbeats("/dev", mounts) == ""
    assert shortages.heartbeats("/", tmp_path / "none") == ""


# Certificates


def certificate(tmp_path: Path, days: int = 90) -> tuple[trustme.CA, tuple[str, ...]]:
    authority = trustme.CA()
    expires = datetime.now(timezone.utc) + timedelta(days=days)
    issued = authority.issue_cert("localhost", not_after=expires)
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return authority, ("--certfile", "cert.pem", "--keyfile", "key.pem")


def trusted(tmp_path: Path) -> dict[str, str]:
    return {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}


@pytest.mark.parametrize(
    ("days", "sentences"),
    [(90, []), (5, ["expires in 5 days"]), (-1, ["has expired"])],
)
def test_the_end_of_a_certificate_is_seen(
    tmp_path: Path, days: int, sentences: list[str]
) -> None:
    _, args = certificate(tmp_path, days)
    checked = Checked(tmp_path, *args, **trusted(tmp_path))
    assert (checked.code, len(checked.machine)) == (0, len(sentences)), checked.machine
    for said, sentence in zip(checked.machine, sentences, strict=True):
        assert sentence in said
        assert "cert.pem" in said


def test_a_chain_that_leads_nowhere_is_seen(tmp_path: Path) -> None:
    _, args = certificate(tmp_path)
    [said] = Checked(tmp_path, *args).machine
    assert "fullchain.pem" in said


def test_a_key_of_another_certificate_is_a_problem(tmp_path: Path) -> None:
    authority, args = certificate(tmp_path)
    other = authority.issue_cert("localhost").private_key_pem
    other.write_to_path(str(tmp_path / "key.pem"))
    checked = Checked(tmp_path, *args, **trusted(tmp_path))
    assert checked.code == 1
    assert "is not the key of certfile" in checked.problems[0]


def test_a_certificate_that_is_missing_is_a_problem(tmp_path: Path) -> None:
    checked = Checked(tmp_path, "--certfile", "none.pem", "--keyfile", "none.pem")
    assert checked.code == 1
    assert "none.pem" in checked.problems[0]
