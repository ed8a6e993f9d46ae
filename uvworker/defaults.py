"""Production settings, to import in a user's own ``gunicorn.conf.py``.

Every name in ``__all__`` is a gunicorn setting. Import them all and override what
differs, or use the module as the whole configuration::

    from uvworker.defaults import *

    gunicorn -c python:uvworker.defaults main:app
"""

import os

from .process.cpus import usable_cpus

__all__ = [
    "accesslog",
    "bind",
    "errorlog",
    "graceful_timeout",
    "keepalive",
    "worker_class",
    "worker_tmp_dir",
    "workers",
]

worker_class = "uvworker.Worker"

# A container is reached from outside itself. PORT is how platforms say which port.
bind = f"0.0.0.0:{os.environ.get('PORT') or 8000}"

# One event loop keeps one CPU busy; more processes than CPUs only add memory.
workers = int(os.environ.get("WEB_CONCURRENCY") or usable_cpus())

# The heartbeat touches a file once a second. On a disk that stalls, a healthy worker
# looks hung; /dev/shm is memory. None is gunicorn's own default, the temporary
# directory.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108

# Longer than the 60 s for which load balancers keep an idle connection (AWS's ALB,
# nginx's upstream keepalive): whoever closes first must not be us, or a request that
# is on its way meets a closed connection and becomes a 502.
keepalive = 75

# Kubernetes kills 30 s after SIGTERM; be done before.
graceful_timeout = 25

# To stdout and stderr, where a container's logs are collected.
accesslog = "-"
errorlog = "-"
