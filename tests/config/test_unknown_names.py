"""Slips in gunicorn.conf.py are found, and nothing else is."""

from __future__ import annotations

import ast
import textwrap

import pytest

from uvworker.config.support_table import SUPPORT
from uvworker.config.unknown_names import mistakes


def found(source: str) -> list[str]:
    return mistakes(ast.parse(textwrap.dedent(source)), SUPPORT)


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("keep_alive = 75", "keepalive?"),
        ("Timeout = 30", "timeout?"),
        ("graceful_timout = 30", "graceful_timeout?"),
        ("log_level = 'info'", "loglevel?"),
        ("access_log = '-'", "accesslog?"),
        ("access_logfile = '-'", "accesslog?"),
        ("workers_class = 'uvworker.Worker'", "worker_class?"),
        ("max_request: int = 100", "max_requests?"),
        ("preload = True", "preload_app?"),
        ("timeout_keep_alive = 5", "keepalive?"),
        ("ssl_keyfile = 'key.pem'", "keyfile?"),
        ("worker_timeout = 5", "timeout?"),
        ("if True:\n    WORKERS = 4", "workers?"),
        ("try:\n    a = keep_alive = 1\nexcept OSError:\n    pass", "keepalive?"),
        ("def worker_aborted(worker): ...", "worker_abort?"),
        ("def on_start(server): ...", "on_starting?"),
        ("port = 8000", "bind"),
        ("host = '0.0.0.0'", "bind"),
        ("max_rss = '512M'", "configured(max_rss=...)"),
        ("loop = 'uvloop'", "asgi_loop?"),
        ("logfile = '/var/log/gunicorn.log'", "errorlog?"),
        ("env = {'A': 'b'}", "raw_env?"),
        ("env = ['A=b']", "raw_env?"),
        ("env = 'A=b'", "raw_env?"),
        ("name = 'shop'", "proc_name?"),
        ("max_worker_memory = 512", "configured(max_rss=...)?"),
        ("max_requests_per_child = 1000", "max_requests?"),
        ("MAX_REQUESTS_PER_CHILD = 1000", "max_requests?"),
        ("keepalive_timeout = 5", "keepalive?"),
        ("worker = 4", "workers?"),
        ("worker: int = 4", "workers?"),
        ("num_workers = 4", "workers?"),
        ("threads_count = 4", "threads?"),
        ("log_config = 'log.ini'", "logconfig?"),
        ("ssl_certfile = 'cert.pem'", "certfile?"),
        ("ssl_cert = 'cert.pem'", "certfile?"),
    ],
)
def test_a_slip_is_reported_with_what_was_meant(line, meant):
    sentences = found(line)
    assert len(sentences) == 1
    assert meant in sentences[0]


def test_the_authors_own_names_are_left_alone():
    assert not found(
        """
        import multiprocessing, os
        from settings import *
        from base import keep_alive

        bind_host = "127.0.0.1"
        PORT = 8000
        port = os.getenv("PORT", "80")
        host = "0.0.0.0"
        bind = f"{host}:{port}"
        cpu_count = multiprocessing.cpu_count()
        worker_name = "shop"
        workers_str = os.getenv("WORKERS")
        workers = int(workers_str) if workers_str else cpu_count
        graceful_timeout_str = os.getenv("GRACEFUL_TIMEOUT", "120")
        graceful_timeout = int(graceful_timeout_str)
        log_level = os.getenv("LOG_LEVEL", "info")
        logconfig_dict = {"root": {"level": log_level}}
        keepalive = 5
        _timeouts = 3
        app = object()
        name = os.environ["APP_NAME"]
        env = os.environ.get("ENV", "dev")
        environment = "production"
        num_workers = 2 * cpu_count
        threads = num_workers
        worker: int
        pid = os.getpid()
        for worker in (): print(worker)
        with open("/dev/null") as logfile: logfile.read()
        project = "shop"

        def start(): ...
        def timeouts(): ...
        def post_fork(server, worker):
            keep_alives = 3

        class Timeouts:
            keep_alive = 3
        """
    )


def test_a_setting_that_only_a_newer_gunicorn_has_is_told_apart():
    tree = ast.parse("root_path = '/x'\ndirty_apps = []")
    root_path, dirty_apps = mistakes(tree, set(SUPPORT) - {"root_path", "dirty_apps"})
    assert "24.0.0" in root_path
    assert "option root_path" in root_path
    assert "25.0.0" in dirty_apps


def test_our_own_defaults_are_no_slips():
    assert not found("from uvworker.defaults import *\nkeepalive = 5")
