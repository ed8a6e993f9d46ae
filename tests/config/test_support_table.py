"""Every gunicorn setting has a row, and what does not hold is said."""

from __future__ import annotations

from typing import Any

import pytest
from gunicorn.config import KNOWN_SETTINGS, Config

from uvworker.config import report as report_room
from uvworker.config.options import Options
from uvworker.config.report import describe, report
from uvworker.config.support_table import SECTIONS, SUPPORT


def configured(**settings: Any) -> Config:
    cfg = Config()
    for name, value in settings.items():
        cfg.set(name, value)
    return cfg


def skip_unless_known(*names: str) -> None:
    known = {setting.name for setting in KNOWN_SETTINGS}
    if missing := set(names) - known:
        pytest.skip(f"this gunicorn has no {', '.join(sorted(missing))}")


def test_every_setting_of_this_gunicorn_has_a_row_in_its_section():
    sections = {row.name: title for title, rows in SECTIONS.items() for row in rows}
    assert {s.name: s.section for s in KNOWN_SETTINGS}.items() <= sections.items()


def test_each_setting_has_one_row():
    assert len(SUPPORT) == sum(map(len, SECTIONS.values()))


def test_each_row_says_something():
    assert all(row.how or row.lacks for row in SUPPORT.values())


def test_defaults_are_never_mentioned():
    said = report(Config(), Options(http="h11"))
    assert said.refusals == said.warnings == ()


def test_settings_that_are_kept_are_not_mentioned():
    said = report(
        configured(keepalive=75, workers=4, timeout=9, accesslog="-"), Options()
    )
    assert said.refusals == said.warnings == ()


def test_a_setting_that_cannot_be_kept_is_named_with_the_reason():
    said = report(configured(threads=8), Options())
    assert said.refusals == ()
    assert len(said.warnings) == 1
    assert said.warnings[0].startswith("threads = 8 is honoured in part: ")
    assert "AnyIO" in said.warnings[0]


def test_threads_are_kept_where_there_are_some():
    assert report(configured(threads=8), Options(interface="wsgi")).warnings == ()
    assert "pool" in describe(configured(threads=8), Options(interface="wsgi"))[0]


def test_a_value_that_matters_is_told_from_one_that_does_not():
    assert report(configured(loglevel="debug"), Options()).warnings == ()
    assert "in part" in report(configured(loglevel="trace"), Options()).warnings[0]


def test_what_would_weaken_security_is_refused():
    skip_unless_known("protocol")
    said = report(configured(protocol="uwsgi"), Options())
    assert said.warnings == ()
    assert "uwsgi" in said.refusals[0]


def test_http2_without_its_library_is_refused_with_what_to_install(monkeypatch):
    skip_unless_known("http_protocols")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert (
        "pip install"
        in report(configured(http_protocols="h2,h1"), Options()).refusals[0]
    )


def test_another_protocol_refuses_stricter_limits_and_names_looser_ones():
    stricter = report(configured(limit_request_line=100), Options(http="h11"))
    looser = report(configured(limit_request_line=8000), Options(http="h11"))
    assert len(stricter.refusals) == len(looser.warnings) == 1
    assert stricter.warnings == looser.refusals == ()


def test_a_setting_of_a_gunicorn_to_come_is_not_silent(monkeypatch):
    rest = {name: row for name, row in SUPPORT.items() if name != "keepalive"}
    monkeypatch.setattr(report_room, "SUPPORT", rest)
    assert "newer" in report(configured(keepalive=75), Options()).warnings[0]
    assert "newer" in describe(configured(keepalive=75), Options())[0]


def test_values_of_variables_are_not_shown():
    lines = describe(configured(raw_env=["PASSWORD=hunter2"]), Options())
    assert "PASSWORD" in lines[0]
    assert "hunter2" not in lines[0]
