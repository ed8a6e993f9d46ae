"""A Gunicorn worker class that serves ASGI apps with uvicorn.

The rooms, and the direction of imports::

    worker     the doorway that gunicorn calls; knows every room
    configured its half in the arbiter: options, checks and reports
    assembly   what a worker serves with, put together after the fork
    server     the uvicorn server inside it: start, serve, drain, quit
    lifespan   the app's startup and shutdown
    reload     what --reload serves while the app cannot be imported
    defaults   production settings to import in gunicorn.conf.py
    __main__   python -m uvworker check
    config/    what a setting flows through
    process/   what a signal and a life sign flow through
    http/      what a connection and its requests flow through

The three wings never import each other; within a wing imports run one way.
"""

from .worker import H11Worker, Worker

# The names under which uvicorn's own worker classes were known.
UvicornWorker = Worker
UvicornH11Worker = H11Worker

__all__ = ["H11Worker", "UvicornH11Worker", "UvicornWorker", "Worker"]
