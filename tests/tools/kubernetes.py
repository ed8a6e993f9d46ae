"""A rollout on a real cluster, under load: ``make kubernetes KUBECONFIG=FILE``.

``python kubernetes.py [FOLDER]`` applies what ``kubectl kustomize`` makes of a folder,
by default the overlay one-process, and prints the requests that were sent and lost. The
image serves `ECHO`. It runs where Services are reached, on a node for example.
"""

# ruff: noqa: T201  # it is a command

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.tools.load import Load
from tests.tools.service import wait_for

OVERLAY = Path(__file__).parents[2] / "conf/kubernetes/overlays/one-process"
DEPLOYMENT = "deployment/app"
SOON, LATE = 30, 300  # seconds


def kubectl(*arguments: str, **kwargs: str) -> str:
    """Run it, and return what it printed; raises where it fails."""
    done = subprocess.run(
        ["kubectl", *arguments], stdout=subprocess.PIPE, text=True, check=True, **kwargs
    )
    return done.stdout


def status(limit: int = LATE) -> None:
    kubectl("rollout", "status", DEPLOYMENT, f"--timeout={limit}s")


def settled() -> bool:
    """Return whether as many pods as wanted are ready, and no old one drains."""
    least = kubectl("get", "hpa/app", "-ojsonpath={.spec.minReplicas}")
    ready = kubectl("get", DEPLOYMENT, "-ojsonpath={.status.readyReplicas}")
    pods = kubectl("get", "pods", "-lapp=app", "-oname").split()
    return int(least) <= int(ready or 0) == len(pods)


def settle() -> None:
    status()
    wait_for(settled, "every pod ready, and no other", LATE)


def rollout() -> None:
    kubectl("rollout", "restart", DEPLOYMENT)


def broken_release() -> None:
    """Roll out what cannot start: the old pods serve until it is undone."""
    kubectl("set", "env", DEPLOYMENT, "GUNICORN_CMD_ARGS=--nonsense")
    try:
        status(SOON)
    except subprocess.CalledProcessError:
        kubectl("rollout", "undo", DEPLOYMENT)
    else:
        sys.exit("A release that cannot start was rolled out.")


def drained_node() -> None:
    """Empty a node with pods of the app, as its PodDisruptionBudget allows."""
    template = "-ojsonpath={.items[0].spec.nodeName}"
    node = kubectl("get", "pods", "-lapp=app", template)
    try:
        kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data")
        settle()
    finally:
        kubectl("uncordon", node)


STEPS: dict[str, Callable[[], None]] = {
    "rollout": rollout,
    "broken release, undo": broken_release,
    "node drained": drained_node,
}


def main(folder: str = str(OVERLAY)) -> None:
    kubectl("apply", "-f-", input=kubectl("kustomize", folder))
    settle()
    template = "-ojsonpath={.spec.clusterIP} {.spec.ports[0].port}"
    host, port = kubectl("get", "service/app", template).split()
    steps = dict(STEPS)
    if len(kubectl("get", "nodes", "-oname").split()) < 2:
        print("There is only one node: it cannot be drained.")
        del steps["node drained"]
    lost = 0
    print(f"{'step':24}{'sent':>8}{'lost':>8}")
    for name, step in steps.items():
        with Load((host, int(port)), pause=0.02) as load:
            step()
            settle()
        lost += len(load.failures)
        print(f"{name:24}{len(load.exchanges):8}{len(load.failures):8}", flush=True)
    sys.exit(lost > 0)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except subprocess.CalledProcessError as error:  # kubectl has said why
        sys.exit(str(error))
