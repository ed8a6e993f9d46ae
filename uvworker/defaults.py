"""Production settings, to import in a user's own ``gunicorn.conf.py``.

Every name in ``__all__`` is a gunicorn setting. Import them all and override what
differs, or use the module as the whole configuration::

    from uvworker.defaults import *

    gunicorn -c python:uvworker.defaults main:app
"""

import os

from .machine.control_socket import can_have_control_socket
from .machine.cpus import usable_cpus

__all__ = [
    "accesslog",
    "bind",
    "control_socket_disable",
    "errorlog",
    "graceful_timeout",
    "keepalive",
    "worker_class",
    "worker_tmp_dir",
    "workers",
]

worker_class = "uvworker.Worker"

# Other machines reach a container. Platforms set PORT.
bind = f"0.0.0.0:{os.environ.get('PORT') or 8000}"

# One event loop keeps one CPU busy; more processes than CPUs only add memory.
workers = int(os.environ.get("WEB_CONCURRENCY") or usable_cpus())

# The heartbeat touches a file once a second. On a disk that stalls, a healthy worker
# looks hung; /dev/shm is memory. None is gunicorn's own default, the temporary
# directory.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108

# Longer than the 60 s for which load balancers keep an idle connection (AWS's ALB,
# nginx's upstream keepalive): if the server closes first, a request on its way meets a
# closed connection and becomes a 502.
keepalive = 75

# Kubernetes kills 30 s after SIGTERM; a drain ends before that.
graceful_timeout = 25

# Where the place of gunicorn's control socket is read-only, as in a hardened container,
# gunicorn 25.1 and later log an error at each start. If you set control_socket to
# another place, set this to False.
control_socket_disable = not can_have_control_socket()

# To stdout and stderr, where a container's logs are collected.
accesslog = "-"
errorlog = "-"
