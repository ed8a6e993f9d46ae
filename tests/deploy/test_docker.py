"""The image, the Compose project and the Swarm stack of ``conf/docker/``, run."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.load import ECHO, Load
from tests.tools.service import wait_for

from .engines import Docker, engine
from .machines import run
from .shipped import CONF

HARDENED = (
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--pids-limit", "100"),
    *("--memory", "256m", "--env", "UVWORKER_MAX_RSS=200M"),
)
SLOW = 60.0  # seconds


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    with engine("uvt-docker") as docker:
        yield docker


@pytest.fixture(scope="module")
def project(docker: Docker) -> Path:
    """Return the folder of an app, with the shipped files."""
    folder = docker.directory / "app"
    shutil.copytree(CONF / "docker", folder)
    shutil.copy(CONF / "gunicorn.conf.py", folder)
    (folder / "main.py").write_text(ECHO)
    (folder / "requirements.txt").write_text("uvworker\nfastapi\n")
    return folder


@pytest.fixture(scope="module")
def image(docker: Docker, project: Path) -> str:
    docker.build("app", project)
    return "app"


@pytest.fixture
def container(docker: Docker, image: str) -> Iterator[str]:
    name = "container"
    docker.do("run", "-d", "--name", name, *HARDENED, "--cpus", "1", image)
    wait_for(lambda: health(docker, name) == "healthy", "a healthy container", SLOW)
    yield name
    docker.do("rm", "-f", name)


def health(docker: Docker, name: str) -> str:
    return docker.do("inspect", "-f", "{{.State.Health.Status}}", name)


def logs(docker: Docker, name: str) -> str:
    return run("sh", "-c", f"docker logs {name} 2>&1", env=docker.environ)


def test_image_holds_no_more_than_the_app(docker: Docker, image: str) -> None:
    files = docker.do("run", "--rm", image, "ls", "-A").split()
    assert sorted(files) == ["gunicorn.conf.py", "main.py", "requirements.txt"]
    history = docker.do("image", "inspect", image, "python:3.13-slim")
    size, base = (image["Size"] for image in json.loads(history))
    print(f"{(size - base) / 1e6:.0f} MB on top of the base image")  # noqa: T201


def test_hardened_container_serves_and_says_nothing_wrong(
    docker: Docker, container: str
) -> None:
    lines = logs(docker, container)
    assert "[ERROR]" not in lines
    assert "[WARNING]" not in lines
    assert lines.count("Booting worker") == 1  # --cpus 1
    assert "Listening at: http://0.0.0.0:8000 (1)" in lines


def test_stop_drains_and_exits_with_0(docker: Docker, container: str) -> None:
    docker.do("stop", container)
    assert docker.do("inspect", "-f", "{{.State.ExitCode}}", container) == "0"
    assert "Shutting down" in logs(docker, container)


@pytest.mark.usefixtures("image")
def test_compose_waits_for_health_and_migrates_before(
    docker: Docker, project: Path
) -> None:
    compose = ("compose", "--project-directory", str(project))
    run("docker", *compose, "config", "-q", env=docker.environ)
    docker.do(*compose, "up", "--detach", "--wait", "--no-build")
    try:
        assert "migrated" in logs(docker, "app-migrate-1")
        with Load(("127.0.0.1", 8080), network=docker.network, pause=0.01) as load:
            load.answer(100)
            docker.do(*compose, "stop", "app")
    finally:
        docker.do(*compose, "down")


# Swarm


@pytest.fixture(scope="module")
def swarm(docker: Docker, project: Path, image: str) -> Iterator[Docker]:
    name = docker.network.name
    run(*f"ip -n {name} link add node type veth peer name peer".split())
    run(*f"ip -n {name} addr add 10.77.0.1/24 dev node".split())
    for link in ("node", "peer"):
        run("ip", "-n", name, "link", "set", link, "up")
    address = ("--advertise-addr", "10.77.0.1", "--listen-addr", "10.77.0.1")
    docker.do("swarm", "init", *address)
    deploy(docker, project, image)
    yield docker
    docker.do("stack", "rm", "app")
    wait_for(lambda: not docker.do("ps", "-q"), "an empty node", SLOW)
    docker.do("swarm", "leave", "--force")


def deploy(docker: Docker, project: Path, image: str) -> None:
    stack = project / "stack.yaml"
    if "version" not in stack.read_text():
        # The command of Docker 20 wants the version that later ones call obsolete.
        stack.write_text('version: "3.9"\n' + stack.read_text())
    arguments = ("--resolve-image", "never", "--compose-file", str(stack))
    docker.do("stack", "deploy", *arguments, "app", IMAGE=image)


def update_state(docker: Docker) -> str:
    template = "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}"
    return docker.do("service", "inspect", "-f", template, "app_app")


def serving(docker: Docker) -> bool:
    done = subprocess.run(
        [
            *("nsenter", f"--net={docker.network}", "curl", "--silent", "--fail"),
            *("-d", "x", "http://127.0.0.1:8080/"),
        ],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def test_updates_of_a_stack_fail_no_request(swarm: Docker, project: Path) -> None:
    wait_for(lambda: serving(swarm), "an answer through haproxy", SLOW)
    with Load(("127.0.0.1", 8080), network=swarm.network, pause=0.02) as load:
        for number in range(2):
            swarm.do("tag", "app", f"app:{number}")
            deploy(swarm, project, f"app:{number}")
            wait_for(lambda: update_state(swarm) == "completed", "an update", 2 * SLOW)
            load.answer(100)
    assert load.failures == []
    print(f"{load.answered} requests")  # noqa: T201


def test_a_release_that_cannot_start_is_rolled_back(
    swarm: Docker, project: Path
) -> None:
    (project / "main.py").write_text("import nonsense")
    swarm.build("app:broken", project)
    wait_for(lambda: serving(swarm), "an answer through haproxy", SLOW)
    with Load(("127.0.0.1", 8080), network=swarm.network, pause=0.02) as load:
        deploy(swarm, project, "app:broken")
        wait_for(
            lambda: update_state(swarm) == "rollback_completed", "a rollback", 2 * SLOW
        )
        load.answer(100)
    assert load.failures == []
