"""Certificates renewed as certbot and cert-manager do it, seen without a reload."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.tools.certificates import Certificates
from tests.tools.load import ECHO, Load
from tests.tools.service import wait_for

NAMES = ("fullchain.pem", "privkey.pem")


class Certbot:
    """``live/NAME`` has symlinks to numbered files of ``archive/NAME``."""

    def __init__(self, directory: Path) -> None:
        self.archive, self.live = directory / "archive", directory / "live"
        self.archive.mkdir()
        self.live.mkdir()
        self.number = 0

    def install(self, *files: Path) -> None:
        self.number += 1
        for file, name in zip(files, NAMES, strict=True):
            stem, suffix = name.split(".")
            goal = self.archive / f"{stem}{self.number}.{suffix}"
            shutil.copy(file, goal)
            link = self.live / name
            link.unlink(missing_ok=True)
            link.symlink_to(Path("..", "archive", goal.name))


class Secret:
    """A volume of Kubernetes: each file leads through ``..data`` to a dated folder."""

    def __init__(self, directory: Path) -> None:
        self.live = directory / "secret"
        self.live.mkdir()
        self.number = 0

    def install(self, *files: Path) -> None:
        self.number += 1
        dated = self.live / f"..2026_{self.number}"
        dated.mkdir()
        for file, name in zip(files, NAMES, strict=True):
            shutil.copy(file, dated / name)
            if self.number == 1:
                (self.live / name).symlink_to(Path("..data", name))
        new = self.live / "..data_tmp"
        new.symlink_to(dated.name)
        new.rename(self.live / "..data")
        if self.number > 1:
            shutil.rmtree(self.live / f"..2026_{self.number - 1}")


@pytest.mark.parametrize("renewer", [Certbot, Secret])
def test_a_renewed_certificate_is_shown_and_no_request_fails(
    serve: Serve,
    tmp_path: Path,
    certificates: Certificates,
    renewer: type[Certbot | Secret],
) -> None:
    place = renewer(tmp_path)
    place.install(certificates.certfile, certificates.keyfile)
    files = [str(place.live / name) for name in NAMES]
    service = serve(ECHO, "--certfile", files[0], "--keyfile", files[1])
    old = certificates.shown(service.port)
    tls = certificates.client()
    tls.maximum_version = tls.maximum_version.TLSv1_2  # 1.3's tickets look like an end
    with Load(("127.0.0.1", service.port), tls=tls, pause=0.01) as load:
        for _ in range(2):
            new = certificates.renew()
            assert new != old
            place.install(certificates.certfile, certificates.keyfile)
            wait_for(
                lambda new=new: certificates.shown(service.port) == new,
                "the new certificate",
            )
        load.answer(20)
    assert load.failures == []
    assert "[ERROR]" not in service.log
    assert "Handling signal: hup" not in service.log
