"""A production configuration: gunicorn -c conf/gunicorn.conf.py main:app.

The parts that suit every deployment come from the package and are argued there; what
depends on yours stands below. Environment variables that it reads: PORT,
WEB_CONCURRENCY, FORWARDED_ALLOW_IPS.
"""

from uvworker.defaults import *  # noqa: F403

# The event loop must turn at least once in this many seconds. It is not a limit on
# requests: an `await` may last longer. A worker that hangs is killed and replaced, and
# the log says in which line it hung.
timeout = 30

# A slow leak somewhere in the app or its libraries ends with the worker; the jitter
# keeps the workers from being replaced together.
max_requests = 100_000
max_requests_jitter = 10_000

# The client, as trusted proxies name it. gunicorn's own %(h)s would be the proxy.
access_log_format = (
    '%({client_addr}e)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
)
