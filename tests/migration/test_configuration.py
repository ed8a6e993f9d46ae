"""What a subclass of uvicorn's worker says in CONFIG_KWARGS and self.config holds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.conftest import HELLO
from tests.tools.apps import LIFE
from tests.tools.service import wait_for

from .conftest import Check, Migrate
from .subclasses import (
    HEADLESS,
    INIT,
    ROOT_PATH,
    kwargs,
    writes,
)


@pytest.mark.parametrize("subclass", HEADLESS.values(), ids=HEADLESS)
def test_what_a_subclass_says_holds_and_the_check_says_so(
    migrate: Migrate, check: Check, subclass: str
) -> None:
    service = migrate(subclass)
    assert "server" not in service.get().headers
    assert service.stop() == 0
    assert "Traceback" not in service.log
    done = check(subclass)
    assert done.returncode == 0, done
    assert "would start" in done.stdout


LATE = f"""
class Mine(UvicornWorker):
    {INIT}
        self.CONFIG_KWARGS = {{"root_path": "/kwargs"}}
        self.config.root_path = "/written"
"""


@pytest.mark.parametrize(
    ("environ", "path"), [({}, "/written"), ({"UVICORN_ROOT_PATH": "/env"}, "/env")]
)
def test_a_write_wins_over_kwargs_and_the_environment_over_both(
    migrate: Migrate, environ: dict[str, str], path: str
) -> None:
    assert migrate(LATE, source=ROOT_PATH, env=environ).get().text == path


PROPERTY = """
class Mine(UvicornWorker):
    @property
    def CONFIG_KWARGS(self):
        return {"root_path": "/property"}
"""


def test_kwargs_may_be_a_property(migrate: Migrate, check: Check) -> None:
    assert migrate(PROPERTY, source=ROOT_PATH).get().text == "/property"
    assert "root_path = '/property'" in check(PROPERTY).stdout


def test_a_list_that_was_appended_to_counts(migrate: Migrate) -> None:
    service = migrate(writes('self.config.headers.append(("x-by", "mine"))'))
    assert service.get().headers["x-by"] == "mine"


def test_a_factory_is_called(migrate: Migrate) -> None:
    app = HELLO + "def create():\n    return app\n"
    factory = "class Mine(UvicornWorker):\n    CONFIG_KWARGS = {'factory': True}\n"
    service = migrate(factory, source=app, app="main:create")
    assert service.get().text == "Hello, world!"


# What gunicorn has a setting for


def test_timeout_graceful_shutdown_is_the_end_of_a_drain(
    migrate: Migrate, tmp_path: Path
) -> None:
    (tmp_path / "hold-request").touch()
    args = ("--graceful-timeout", "600")  # which the test would not live to see
    service = migrate(kwargs(timeout_graceful_shutdown=1), *args, source=LIFE)
    client = service.begin()
    service.wait_said("request")
    assert service.stop() == 0
    assert client.getresponse().status == 503
    assert service.said("closed")


def test_backlog_is_the_listeners(migrate: Migrate) -> None:
    service = migrate(kwargs(backlog=77))
    service.get()
    ss = subprocess.run(["ss", "-ltn"], capture_output=True, text=True, check=True)
    [line] = [line for line in ss.stdout.splitlines() if f":{service.port} " in line]
    assert line.split()[2] == "77"


LOG_CONFIG = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "PLAIN %(message)s"}},
    "handlers": {
        "plain": {
            "class": "logging.StreamHandler",
            "formatter": "plain",
            "stream": "ext://sys.stdout",
        }
    },
    "loggers": {"uvicorn": {"handlers": ["plain"], "level": "INFO"}},
}


@pytest.mark.parametrize("how", ["dict", "json", "written"])
def test_log_config_is_uvicorns(
    migrate: Migrate, check: Check, tmp_path: Path, how: str
) -> None:
    (tmp_path / "log.json").write_text(json.dumps(LOG_CONFIG))
    subclass = {
        "dict": kwargs(log_config=LOG_CONFIG),
        "json": kwargs(log_config="log.json"),
        "written": writes(f"self.config.log_config = {LOG_CONFIG!r}"),
    }[how]
    app = HELLO + "import logging\nlogging.getLogger('uvicorn').info('imported')\n"
    service = migrate(subclass, source=app)
    wait_for(lambda: "PLAIN imported" in service.out, "the line in the format")
    assert check(subclass).returncode == 0


SPEAKS = (
    HELLO
    + """
import logging
for name in "debug", "info", "warning":
    getattr(logging.getLogger("uvicorn.error"), name)("said %s", name)
"""
)


def test_log_level_lets_the_worker_say_more(migrate: Migrate) -> None:
    migrate(kwargs(log_level="debug"), source=SPEAKS).wait_log("said debug")


def test_log_level_lets_the_worker_say_less(migrate: Migrate) -> None:
    args = ("--access-logfile", "-")
    service = migrate(kwargs(log_level="warning"), *args, source=SPEAKS, wait=0)
    service.get("/hidden")
    assert service.stop() == 0
    assert "said warning" in service.log
    assert "said info" not in service.log
    assert "/hidden" not in service.out
