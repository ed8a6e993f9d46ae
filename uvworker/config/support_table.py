"""How each gunicorn setting is supported: one row for every setting.

The table has every setting of every supported gunicorn, in gunicorn's own sections; a
test fails when a gunicorn has a setting that it lacks. A row says which layer honours
the setting, and what is not honoured: why, and what to use instead. `report` turns
rows into log lines at start, and ``docs/generate.py`` into ``docs/settings.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .support import (
    Support,
    always,
    gunicorn,
    is_no_level,
    is_python,
    needs_zttp,
    protocol,
    tightened_below,
    unsupported,
    worker,
    wsgi,
)

LOGCONFIG = "uvicorn follows it too; gunicorn then also writes an access log"

SECTIONS: Mapping[str, tuple[Support, ...]] = MappingProxyType(
    {
        "Config File": (
            gunicorn("config", "the file or module that is read"),
            gunicorn("wsgi_app", "the app, where the command line names none"),
        ),
        "Server Socket": (
            gunicorn("bind", "TCP, unix sockets and fd://, any number of them"),
            worker("backlog", "the queue has this length also while workers accept"),
        ),
        "Worker Processes": (
            gunicorn("workers", "the arbiter, with TTIN and TTOU"),
            gunicorn("worker_class", "a string, or a class in gunicorn.conf.py"),
            wsgi(
                "threads",
                'the thread pool of interface = "wsgi"; at gunicorn\'s default, 1, '
                "it has a2wsgi's size, 10",
                "an ASGI app runs on one event loop, not in threads; synchronous "
                "endpoints run in AnyIO's pool, whose size the app sets in its "
                "lifespan: anyio.to_thread.current_default_thread_limiter()"
                ".total_tokens",
            ),
            worker(
                "worker_connections",
                "a limit: a full worker stops accepting and leaves connections to "
                "its siblings or the backlog; at gunicorn's default, 1000, the only "
                "limit is that of file descriptors",
            ),
            worker("max_requests", "a drain, and WebSockets count as requests"),
            worker("max_requests_jitter", "drawn anew in each worker"),
            worker(
                "timeout",
                "heartbeats from before lifespan startup until after lifespan "
                "shutdown; the stacks of a worker that blocks its loop are logged",
            ),
            worker(
                "graceful_timeout",
                "the time limit of every drain, on reload and recycling too; it "
                "includes the lifespan shutdown",
            ),
            worker("keepalive", "seconds; 0 announces Connection: close"),
            worker("asgi_loop", "auto uses uvloop if installed", since="24.0.0"),
            worker(
                "asgi_lifespan",
                "in auto, an app that does not answer the startup event with a "
                "lifespan message serves without a lifespan; an app whose startup "
                "fails does not serve; a lifespan that ends while the worker serves "
                "is logged at once",
                since="24.0.0",
            ),
            protocol(
                "asgi_disconnect_grace_period",
                "seconds from http.disconnect until the request is cancelled; at "
                "gunicorn's default, 3, it never is, as with uvicorn; for about three "
                "seconds, set 2 or 4",
                since="25.1.0",
            ),
            worker("websocket_max_message_size", "0 for no limit", since="27.0.0"),
            worker(
                "http_parser",
                "auto and fast use httptools, python uses h11",
                lacks="h11 has one limit, h11_max_incomplete_event_size for the "
                "whole head, instead of limit_request_*; leave http_parser at auto",
                when=is_python,
                since="25.3.0",
            ),
        ),
        "Security": (
            protocol(
                "limit_request_line",
                "414, counted as it arrives",
                refuse=tightened_below(4094),
            ),
            protocol(
                "limit_request_fields",
                "431, counted as they arrive",
                refuse=tightened_below(100),
            ),
            protocol(
                "limit_request_field_size",
                "431, counted as it arrives",
                refuse=tightened_below(8190),
            ),
        ),
        "Debugging": (
            worker("reload", "with all engines; a page shows why an app is broken"),
            worker("reload_engine", "as gunicorn chooses"),
            worker("reload_extra_files", "files and patterns"),
            gunicorn("spew", "every line executed, to stderr"),
            gunicorn(
                "check_config",
                "does not check options; python -m uvworker check does",
            ),
            gunicorn("print_config", "prints and exits"),
        ),
        "Server Mechanics": (
            gunicorn("preload_app", "the arbiter imports the app, once"),
            protocol(
                "sendfile",
                "for files that an app sends by path, as Starlette's FileResponse "
                "does; over TLS they are read in pieces; off, no app is offered it; "
                "unset, none that compresses",
            ),
            gunicorn(
                "reuse_port",
                "a listener for each worker: the kernel spreads connections by hash, "
                "and a worker cannot leave one to a sibling",
            ),
            gunicorn("chdir", "before the app is loaded"),
            gunicorn("daemon", "by the arbiter"),
            gunicorn("raw_env", "also for the options that variables set"),
            gunicorn("pidfile", "by the arbiter"),
            gunicorn("worker_tmp_dir", "where heartbeats are written"),
            gunicorn("user", "after the fork"),
            gunicorn("group", "after the fork"),
            gunicorn("umask", "for unix sockets and heartbeat files"),
            worker(
                "initgroups",
                "with the primary group, which gunicorn itself does not set",
            ),
            unsupported(
                "tmp_upload_dir",
                "bodies are streamed to the app, and no gunicorn reads the setting; "
                "for files that the app itself spools, set the environment variable "
                "TMPDIR",
            ),
            protocol("secure_scheme_headers", "conflicting ones are answered 400"),
            protocol(
                "forwarded_allow_ips",
                "addresses, networks and *; a peer on a unix socket is trusted",
            ),
            gunicorn("pythonpath", "before the app is loaded"),
            gunicorn("paste", "an app that PasteDeploy makes"),
            gunicorn("raw_paste_global_conf", "for paste"),
            protocol("proxy_protocol", "v1 and v2", refuse=always),
            protocol(
                "proxy_allow_ips",
                "a header from another peer is refused; unix sockets are trusted",
                refuse=always,
            ),
            unsupported(
                "protocol",
                "uwsgi is not supported, and neither is uwsgi_allow_ips; let the "
                "proxy speak HTTP (nginx: proxy_pass instead of uwsgi_pass)",
                refuse=always,
                since="24.0.0",
            ),
            unsupported(
                "uwsgi_allow_ips",
                "uwsgi is not supported; use forwarded_allow_ips or proxy_allow_ips",
                since="24.0.0",
            ),
            protocol("permit_obsolete_folding", "off: 400"),
            unsupported(
                "strip_header_spaces",
                "a space before the colon allows request smuggling, and is answered "
                "400; correct the client",
            ),
            protocol(
                "permit_unconventional_http_method",
                "the methods that httptools knows",
                lacks="httptools answers 400 to a method that it does not know; "
                'http_parser = "python" accepts any',
            ),
            protocol("permit_unconventional_http_version", "off: 1.0 and 1.1"),
            protocol(
                "casefold_http_method",
                "except for a request that is pipelined after another: a method in "
                "lower case is answered 400 there",
            ),
            protocol(
                "forwarder_headers",
                "SCRIPT_NAME and PATH_INFO become root_path and path",
            ),
            protocol(
                "header_map",
                "drop, refuse or dangerous, for names with _",
                refuse=always,
            ),
            worker("root_path", "ASGI's root_path", since="24.0.0"),
        ),
        "Logging": (
            worker("accesslog", "a line at the end of each response"),
            gunicorn("disable_redirect_access_to_syslog", "gunicorn's logger"),
            worker(
                "access_log_format",
                "every atom, compiled once; %(h)s is the peer, %({client_addr}e)s the "
                "client that a trusted proxy names",
            ),
            worker("errorlog", "uvicorn's messages go there too"),
            worker(
                "loglevel",
                "uvicorn's messages follow it too",
                lacks="gunicorn uses info for a level that it does not know; use "
                "debug, info, warning, error or critical",
                when=is_no_level,
            ),
            gunicorn("capture_output", "stdout and stderr of the app"),
            worker("logger_class", "its access() and error() are called"),
            worker("logconfig", LOGCONFIG),
            worker("logconfig_dict", LOGCONFIG),
            worker("logconfig_json", LOGCONFIG),
            gunicorn("syslog_addr", "gunicorn's logger"),
            gunicorn("syslog", "gunicorn's logger"),
            gunicorn("syslog_prefix", "gunicorn's logger"),
            gunicorn("syslog_facility", "gunicorn's logger"),
            gunicorn("enable_stdio_inheritance", "in daemon mode"),
            worker(
                "statsd_host",
                "every request counts, without an access log too; the service's gauges",
            ),
            gunicorn("dogstatsd_tags", "gunicorn's logger"),
            gunicorn("statsd_prefix", "gunicorn's logger"),
            gunicorn("enable_backlog_metric", "the arbiter", since="24.1.1"),
        ),
        "Process Naming": (
            gunicorn("proc_name", "if setproctitle is installed"),
            gunicorn("default_proc_name", "gunicorn's own use"),
        ),
        "Server Hooks": (
            gunicorn("on_starting", "in the arbiter"),
            gunicorn("on_reload", "in the arbiter"),
            gunicorn("when_ready", "in the arbiter"),
            gunicorn("pre_fork", "in the arbiter"),
            gunicorn("post_fork", "in the worker, before the app is loaded"),
            gunicorn("post_worker_init", "in the worker, before lifespan startup"),
            worker("worker_int", "on INT and QUIT, and on a reload of code"),
            worker("worker_abort", "also when the event loop is blocked"),
            gunicorn("pre_exec", "in the arbiter"),
            worker("pre_request", "costs nothing if it is not set"),
            worker("post_request", "always with environ and resp"),
            gunicorn("child_exit", "in the arbiter"),
            worker("worker_exit", "however the worker ends, except by SIGKILL"),
            gunicorn("nworkers_changed", "in the arbiter"),
            gunicorn("on_exit", "in the arbiter"),
            worker("ssl_context", "also without certfile; if it fails, no start"),
        ),
        "SSL": (
            worker("keyfile", "watched for renewal; ssl_keyfile_password decrypts it"),
            worker(
                "certfile",
                "watched for renewal if the worker's user may read all TLS files",
            ),
            unsupported(
                "ssl_version",
                "deprecated, and ignored by gunicorn itself; set minimum_version in "
                "the ssl_context hook",
            ),
            worker("cert_reqs", "the client's certificate is in ASGI's tls extension"),
            worker("ca_certs", "watched for renewal"),
            unsupported(
                "suppress_ragged_eofs",
                "asyncio does not distinguish a TLS connection that was cut from one "
                "that ended; the request's own framing shows that a body was cut",
                when=lambda value: not value,
            ),
            worker("do_handshake_on_connect", "always, with a deadline"),
            worker("ciphers", "as OpenSSL has them"),
        ),
        "HTTP/2": (
            worker(
                "http_protocols",
                "h2 over TLS, and as http2_cleartext says; the framing is zttp's",
                lacks="HTTP/2 needs zttp: pip install 'uvworker[http2]'",
                when=needs_zttp,
                refuse=always,
                since="25.0.0",
            ),
            worker(
                "http2_cleartext",
                "from peers in forwarded_allow_ips; no upgrade with a request body",
                since="26.2.0",
            ),
            worker(
                "http2_max_concurrent_streams",
                "as far as zttp, which allows 128",
                lacks="zttp allows 128",
                when=lambda value: value > 128,  # noqa: PLR2004 - zttp's number
                since="25.0.0",
            ),
            unsupported(
                "http2_initial_window_size",
                "zttp uses 65535 and has no setting for it",
                since="25.0.0",
            ),
            unsupported(
                "http2_max_frame_size",
                "zttp uses 16384 and has no setting for it",
                since="25.0.0",
            ),
            worker(
                "http2_max_header_list_size",
                "as far as zttp, which allows 65536; more is answered 431",
                lacks="zttp allows 65536",
                when=lambda value: value > 65536,  # noqa: PLR2004 - zttp's number
                since="25.0.0",
            ),
        ),
        "Dirty Arbiters": tuple(
            gunicorn(name, "gunicorn's dirty arbiter", since="25.0.0")
            for name in (
                "dirty_apps",
                "dirty_workers",
                "dirty_timeout",
                "dirty_threads",
                "dirty_graceful_timeout",
            )
        ),
        "Dirty Arbiter Hooks": tuple(
            gunicorn(name, "in gunicorn's dirty processes", since="25.0.0")
            for name in (
                "on_dirty_starting",
                "dirty_post_fork",
                "dirty_worker_init",
                "dirty_worker_exit",
            )
        ),
        "Control": (
            gunicorn("control_socket", "gunicornc", since="25.1.0"),
            gunicorn("control_socket_mode", "gunicornc", since="25.1.0"),
            gunicorn("control_socket_disable", "gunicornc", since="25.1.0"),
        ),
    }
)

SUPPORT: Mapping[str, Support] = MappingProxyType(
    {row.name: row for rows in SECTIONS.values() for row in rows}
)
