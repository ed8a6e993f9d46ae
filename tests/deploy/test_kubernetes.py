"""The manifests of ``conf/kubernetes/``: rendered, validated, and true to a service.

Their shape is checked against the schemas of the newest API. What a pod does is seen in
a service with the pod's environment, and the race with the endpoints' removal behind a
real haproxy (`test_hosts`); no cluster runs here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import HELLO, Serve
from tests.tools.proxies import needs
from tests.tools.service import PATIENCE, reserved_port, wait_for
from uvworker import defaults

from .machines import run
from .shipped import CONF

FOLDER = CONF / "kubernetes"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir())
JOB = FOLDER / "migrate" / "job.yaml"

yaml = pytest.importorskip("yaml") if "CI" not in os.environ else __import__("yaml")

pytestmark = needs("kubectl")


def rendered(overlay: str) -> str:
    return run("kubectl", "kustomize", str(FOLDER / "overlays" / overlay))


def pod(overlay: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a pod's specification, and that of its container."""
    documents = yaml.safe_load_all(rendered(overlay))
    [spec] = [
        document["spec"]["template"]["spec"]
        for document in documents
        if document["kind"] == "Deployment"
    ]
    [container] = spec["containers"]
    return spec, container


@pytest.mark.parametrize("what", [*OVERLAYS, "migrate"])
def test_manifests_are_valid_to_the_letter(tmp_path: Path, what: str) -> None:
    file = tmp_path / "manifests.yaml"
    file.write_text(JOB.read_text() if what == "migrate" else rendered(what))
    validate = Path(sys.executable).with_name("kubernetes-validate")
    done = subprocess.run(
        [validate, "--strict", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARN" not in done.stdout + done.stderr


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_drain_fits_into_the_pods_grace(overlay: str) -> None:
    spec, container = pod(overlay)
    delay = float(environment(container)["UVWORKER_DRAIN_DELAY"])
    assert delay < defaults.graceful_timeout
    assert spec["terminationGracePeriodSeconds"] > defaults.graceful_timeout
    # The node's own way to the pod: noticed by a probe before the port closes.
    assert delay > container["readinessProbe"]["periodSeconds"]


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["value"] for item in container["env"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_are_true_of_a_service_with_the_pods_environment(
    serve: Serve, overlay: str
) -> None:
    _, container = pod(overlay)
    variables = environment(container)
    with reserved_port() as port:
        variables["UVWORKER_OPS_BIND"] = f"0.0.0.0:{port}"
        service = serve(
            HELLO,
            *("-c", "python:uvworker.defaults"),
            env=variables,
            wait=int(variables["WEB_CONCURRENCY"]),
        )
        paths = {
            name: container[name]["httpGet"]["path"]
            for name in ("startupProbe", "readinessProbe", "livenessProbe")
        }

        def asked(name: str) -> int:
            url = f"http://127.0.0.1:{port}{paths[name]}"
            return httpx.get(url, timeout=PATIENCE).status_code

        wait_for(lambda: {asked(name) for name in paths} == {200}, "three times 200")
        service.kill(signal.SIGTERM)
        wait_for(lambda: asked("readinessProbe") == 503, "not ready")
        assert asked("livenessProbe") == 200
        assert service.get().text == "Hello, world!"
        service.wait_exit()
        assert "[ERROR]" not in service.log
        assert "[WARNING]" not in service.log
