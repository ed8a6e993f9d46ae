"""A Gunicorn worker class that serves ASGI apps with uvicorn.

The rooms in front, and the wings by what flows through them::

    worker         the class that gunicorn gets, on its event loop
    booting        its part between the fork and the event loop
    configured     its part in the arbiter: options, checks and reports
    own_names      the names that a subclass of it may not use
    assembly       what a worker serves with, assembled after the fork
    protocols      the protocol classes that it serves with, and their limits
    server         the uvicorn server inside it: start, serve, drain, quit
    shared         what all workers of one arbiter share
    health         the app's own health checks: its public functions
    observation    the facts of a service, for an operator
    worker_report  what one worker tells of itself
    operations_thread  what answers an operator, put together
    defaults       production settings to import in gunicorn.conf.py
    __main__       python -m uvworker COMMAND
    check_command  its command `check`
    machine_check  what of the machine does not fit, for that command
    migration/     the shape of uvicorn's own worker class, for its subclasses

    config/        a setting: from cfg and environment to frozen values
    process/       a signal and a heartbeat: boot, hand-over, recycling, exits
    shared_memory/ what the workers of one arbiter know of one another
    diagnosis/     what a worker does at this moment, from its stacks
    machine/       what the kernel, the container and systemd say
    accept/        a connection, until its first byte of HTTP
    http/          a request
    http2/         a connection of HTTP/2, whose streams are requests
    websocket/     a message
    access/        the record of an answered request
    app/           the app: interface, lifespan, checks, WSGI, the --reload page
    operations/    an operator's question: health, metrics, states

Imports run one way: the rooms in front use the wings; `http` uses `accept`, `access`
and `app`; `operations` uses `access` and `app`; `access` and `websocket` use `app`;
`http2` uses `http`; `process` uses `shared_memory`, `diagnosis` and `machine`;
`diagnosis` uses `shared_memory`; no other wing imports another.
`tests/test_architecture.py` checks this.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .migration.worker import UvicornH11Worker, UvicornWorker
    from .worker import H11Worker, Worker

__all__ = ["H11Worker", "UvicornH11Worker", "UvicornWorker", "Worker"]

_ROOMS = {
    "H11Worker": "worker",
    "UvicornH11Worker": "migration.worker",
    "UvicornWorker": "migration.worker",
    "Worker": "worker",
}


def __getattr__(name: str) -> Any:
    """Import a class when it is asked for.

    ``python -m uvworker status`` is a health check that runs every few seconds: it
    must not import uvicorn, which would take half a second of CPU time.
    """
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_ROOMS[name]}", __name__), name)
    globals()[name] = value
    return value
