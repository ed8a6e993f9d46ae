"""What a subclass cannot have is refused in a sentence, by the start and the check."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Check, Migrate
from .subclasses import (
    INIT,
    kwargs,
    writes,
)

PAST = """
class Mine(UvicornWorker):
    def __init__(self, *args, **kwargs):
        super(UvicornWorker, self).__init__(*args, **kwargs)
        self.config = uvicorn.Config(app=None, log_config=None)
"""
NO_SUPER = """
class Mine(UvicornWorker):
    def __init__(self, *args, **kwargs):
        self.beats = 0
"""
REFUSED = {
    "unknown": (kwargs(lifspan="on"), 'CONFIG_KWARGS["lifspan"]', "mean lifespan?"),
    "host": (kwargs(host="0.0.0.0"), "'0.0.0.0'", "bind is ['127.0.0.1:0']"),
    "workers": (kwargs(workers=4), '["workers"] is 4', "gunicorn's workers is 1"),
    "reload": (kwargs(reload=True), "is True", "gunicorn's reload is False"),
    "certificate": (kwargs(ssl_certfile="a.pem"), "'a.pem'", "certfile is None"),
    "level": (kwargs(log_level="loud"), "'loud'", "allowed: critical"),
    "no file": (kwargs(log_config="log.json"), "'log.json'", "does not exist"),
    "too long": (kwargs(timeout_graceful_shutdown=99), "99", "graceful_timeout is 30"),
    "value": (kwargs(ws_max_queue="many"), "'many'", "a whole number"),
    "written": (writes("self.config.lifespan = 1"), "self.config.lifespan is 1", "off"),
    "a slip": (
        writes("self.config.sever_header = 0"),
        "sever_header",
        "server_header?",
    ),
    "written tls": (writes("self.config.ssl = 1"), "self.config.ssl", "ssl_context"),
    "written port": (writes("self.config.port = 1"), "self.config.port is 1", "bind"),
    "a configuration of one's own": (
        "class Proxied(uvicorn.Config):\n    def load(self): ...\n"
        + writes("self.config = Proxied(app=None, log_config=None)"),
        "Proxied.load is never called",
        "wrap the app where it is made",
    ),
    "a loop of one's own": (
        "class Looped(uvicorn.Config):\n    def get_loop_factory(self): ...\n"
        + writes("self.config = Looped(app=None, log_config=None)"),
        "Looped.get_loop_factory is never called",
        "write self.config.loop",
    ),
    "past us": (PAST, "Mine.__init__ does not call that of uvworker", "super().__in"),
    "no super": (NO_SUPER, "Mine.__init__ does not call that of uvworker", "super()"),
    "no super of a mixin": (
        NO_SUPER.replace("Mine(UvicornWorker)", "Mixin")
        + "class Mine(Mixin, UvicornWorker): ...\n",
        "Mixin.__init__ does not call that of uvworker",
        "super()",
    ),
    "read only": (
        "class Mine(UvicornWorker):\n    @property\n    def config(self): return 1\n",
        "Mine.config is a property without a setter",
        "write to self.config in __init__",
    ),
    "colours": (kwargs(use_colors=True), '["use_colors"]', "no colours"),
    "no kwargs": ("class Mine(UvicornWorker): CONFIG_KWARGS = 1", "is 1", "a dict"),
    "no package": (
        writes("self.config.loop = 'zuvloop'"),
        "'zuvloop'",
        "needs the pack",
    ),
    "our attribute": (writes("self._settings = 1"), "self._settings", "choose another"),
    "our attribute, anew": (writes("self._loop = 1"), "self._loop", "choose another"),
    "our name, of an attribute": (
        "class Mine(UvicornWorker):\n    def _settings(self): ...\n",
        "Mine._settings",
        "choose another",
    ),
    "our attribute, which the boot needs": (
        writes("self.shared = {}"),
        "self.shared",
        "choose another",
    ),
    "our public name": (
        "class Mine(UvicornWorker):\n    shared = {}\n",
        "Mine.shared",
        "choose another",
    ),
    "our name, below our other class": (
        "from uvworker import Worker\nclass Mine(Worker):\n    def _drain(self): ...\n",
        "Mine._drain",
        "choose another",
    ),
    "our name": (
        "class Mine(UvicornWorker):\n    def _drain(self): ...\n",
        "Mine._drain",
        "choose another",
    ),
}


@pytest.mark.parametrize(("subclass", "what", "why"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_hold_is_refused_in_a_sentence_by_start_and_check(
    migrate: Migrate, check: Check, subclass: str, what: str, why: str
) -> None:
    service = migrate(subclass, wait=0)
    assert service.wait_exit() in {1, 3}
    said = service.log + service.out
    assert what in said
    assert why in said
    assert "Traceback" not in said
    done = check(subclass, "-b", "127.0.0.1:0")
    assert done.returncode == 1
    assert what in done.stdout
    assert why in done.stdout
    assert "Traceback" not in done.stderr


def test_reading_the_config_past_us_ends_in_the_sentence(
    migrate: Migrate, check: Check
) -> None:
    source = PAST.partition("self.config")[0] + "self.config.root_path = '/'\n"
    service = migrate(source, wait=0)
    assert service.wait_exit() != 0
    assert "Mine.__init__ does not call that of uvworker" in service.log
    done = check(source)
    assert done.returncode == 1
    assert "Mine.__init__ does not call that of uvworker" in done.stdout


def test_the_check_names_all_refusals_at_once(check: Check) -> None:
    done = check(
        kwargs(reload=True, workers=4, lifspan="off", ws_max_queue=0)
        + f"    {INIT}\n        self.config.port = 1\n        self.config.sll = 1\n"
        + "    def _drain(self): ...\n",
    )
    assert done.returncode == 1
    problems = done.stdout.partition("Problems\n")[2].strip().splitlines()
    for name in "reload", "workers", "lifspan", "ws_max_queue", "port", "sll", "_drain":
        assert len([line for line in problems if name in line.split(" is ")[0]]) == 1
    assert len(problems) == 7, problems


def test_what_agrees_with_gunicorn_is_no_refusal(
    migrate: Migrate, tmp_path: Path
) -> None:
    source = kwargs(
        uds=f"{tmp_path}/app.sock",
        workers=2,
        reload=False,
        host=None,
        timeout_notify=9,
        reload_delay=0.25,  # uvicorn's defaults
        timeout_worker_healthcheck=5,
    )
    migrate(source, "-w", "2", bind=f"unix:{tmp_path}/app.sock", wait=2)


def test_a_name_of_its_own_that_sounds_like_options_is_the_subclasss(
    migrate: Migrate, check: Check
) -> None:
    source = "class Mine(UvicornWorker):\n    OPTIONS = ['a']\n"
    migrate(source, "-w", "1")
    assert check(source).returncode == 0


HANDLER = {"class": "no.such.Handler"}
UNUSABLE_LOGS = {
    "class": (
        {"version": 1, "handlers": {"h": HANDLER}, "root": {"handlers": ["h"]}},
        "handler h: Cannot resolve 'no.such.Handler': No module named 'no'",
        "Cannot resolve 'no.such.Handler': No module named 'no'",
    ),
    "directory": (
        {
            "version": 1,
            "handlers": {"h": {"class": "logging.FileHandler", "filename": "no/a.log"}},
            "root": {"handlers": ["h"]},
        },
        "log_config: the directory no of handler h does not exist.",
        "No such file or directory",
    ),
    "version": ({}, 'log_config has no version: add "version": 1.', "a version"),
}


@pytest.mark.parametrize(
    ("given", "checked", "started"), UNUSABLE_LOGS.values(), ids=UNUSABLE_LOGS
)
def test_a_log_config_that_no_worker_can_use_is_named(
    migrate: Migrate, check: Check, given: object, checked: str, started: str
) -> None:
    service = migrate(kwargs(log_config=given), wait=0)
    assert service.wait_exit() == 3
    service.wait_log(f"cannot start: log_config cannot be used: .*{started}")
    done = check(kwargs(log_config=given))
    assert done.returncode == 1
    assert checked in done.stdout
    assert check(kwargs(log_config=GOOD_LOGS)).returncode == 0


GOOD_LOGS = {
    "version": 1,
    "formatters": {"f": {"()": "uvicorn.logging.DefaultFormatter"}},
    "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}},
    "root": {"handlers": ["h"]},
}
