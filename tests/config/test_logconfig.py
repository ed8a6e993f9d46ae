"""Log configurations that were written for uvicorn, and what the check says of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from gunicorn.config import Config
from uvicorn.config import LOGGING_CONFIG

from uvworker.config.logconfig import unusable

INI = """
[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys =
[logger_root]
handlers = console
[handler_console]
class = StreamHandler
args = ()
"""
ADD_ROOT = 'add "root": {}.'
FILES = {
    "uvicorns.json": json.dumps(LOGGING_CONFIG),
    "rooted.json": json.dumps({**LOGGING_CONFIG, "root": {}}),
    "broken.json": "{",
    "list.json": "[]",
    "log.yaml": "version: 1\n",
    "log.yml": "version: 1\n",
    "yaml.conf": "version: 1\nhandlers:\n  console:\n",
    "json.conf": json.dumps(LOGGING_CONFIG),
    "log.ini": INI,
    "partial.ini": "[loggers]\nkeys = root\n",
}


def with_handler(handler: object) -> dict[str, object]:
    return {"handlers": {"console": {}, "error_console": {}, "h": handler}}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)


def cfg_of(setting: str, value: object) -> Config:
    cfg = Config()
    cfg.set(setting, value)
    return cfg


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("logconfig", "uvicorns.json", ["set logconfig_json to it", ADD_ROOT]),
        ("logconfig", "rooted.json", ["set logconfig_json to it"]),
        ("logconfig", "json.conf", ["set logconfig_json to it", ADD_ROOT]),
        ("logconfig", "log.yaml", ["yaml.safe_load(open"]),
        ("logconfig", "log.yml", ["yaml.safe_load(open"]),
        ("logconfig", "yaml.conf", ["is not an INI file"]),
        ("logconfig", "none.ini", ["cannot be read: No such file"]),
        ("logconfig", "partial.ini", ["[handlers]", "[formatters]"]),
        ("logconfig", "log.ini", []),
        ("logconfig_json", "uvicorns.json", [ADD_ROOT]),
        ("logconfig_json", "rooted.json", []),
        ("logconfig_json", "broken.json", ["cannot be read: Expecting"]),
        ("logconfig_json", "list.json", ["not contain a JSON object"]),
        ("logconfig_json", "none.json", ["does not exist"]),
        ("logconfig_json", "log.yaml", ["yaml.safe_load(open"]),
        ("logconfig_dict", LOGGING_CONFIG, [ADD_ROOT]),
        ("logconfig_dict", {**LOGGING_CONFIG, "root": {"level": "INFO"}}, []),
        (
            "logconfig_dict",
            {"root": {"handlers": ["none"]}},
            ["handler 'none' of logger root is missing"],
        ),
        ("logconfig_dict", {"version": 1}, []),
        (
            "logconfig_dict",
            {"formatters": {"generic": {"()": "no.such.Formatter"}}},
            ["formatter generic: Cannot resolve 'no.such.Formatter'"],
        ),
        (
            "logconfig_dict",
            with_handler({"class": "logging.FileHandler", "filename": "no/a.log"}),
            ["the directory no of handler h does not exist"],
        ),
        (
            "logconfig_dict",
            with_handler({"class": "pathlib.Path", "filename": "no/a.log"}),
            [],
        ),
        ("logconfig_dict", {"formatters": {}}, ["console", "error_console"]),
    ],
)
def test_what_gunicorn_cannot_take_is_said_with_what_to_do(
    setting: str, value: object, words: list[str]
) -> None:
    said = list(unusable(cfg_of(setting, value)))
    assert len(said) == len(words), said
    for sentence, word in zip(said, words, strict=True):
        assert word in sentence
        assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--log-config", "uvicorns.json"), 1),
        (("--log-config", "log.ini"), 0),
        (("--log-config-json", "uvicorns.json"), 1),
        (("--log-config-json", "rooted.json"), 0),
    ],
)
def test_the_check_and_gunicorn_are_of_one_mind(
    arguments: tuple[str, ...], code: int
) -> None:
    """Its own `--check-config` sets up no log, so that its logger is asked."""
    Path("main.py").write_text("async def app(scope, receive, send): ...")
    command = [sys.executable, "-m", "uvworker", "check", "-k", "uvworker.Worker"]
    check = subprocess.run(
        [*command, *arguments, "main:app"], capture_output=True, text=True, check=False
    )
    assert check.returncode == code
    assert "Traceback" not in check.stderr
    assert "cannot be made" not in check.stdout
    asked = "import sys; from gunicorn.config import Config; from gunicorn.glogging "
    asked += "import Logger; c = Config(); c.set(*sys.argv[1:]); Logger(c)"
    setting = "logconfig_json" if "json" in arguments[0] else "logconfig"
    done = subprocess.run(
        [sys.executable, "-c", asked, setting, arguments[1]], check=False
    )
    assert done.returncode == code
