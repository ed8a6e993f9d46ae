"""The app's say in the health of its worker: checks of what it cannot work without.

::

    from uvworker import health

    async def database():
        await pool.execute("select 1")

    health.add_check("database", database, timeout=2, period=10)
"""

from __future__ import annotations

from .app.checks import Call, Check, registered


def add_check(
    name: str, check: Call, *, timeout: float = 5.0, period: float = 10.0
) -> None:
    """Let *check* decide whether this worker is ready.

    Call it when the app is imported, in its lifespan, or at any later time. A check
    with the same name is replaced.

    Each worker runs the check on its event loop: once before it serves, then every
    *period* seconds, never twice at a time, and never for a probe. The check fails if
    it raises or returns ``False``, or if it does not end in *timeout* seconds; then it
    is cancelled. While it fails, the worker serves on but is not ready: ``/readyz``,
    ``/healthz`` and ``ready_path`` answer 503 once no worker is ready, and with
    ``/status.json`` they say which check fails and why. ``/livez`` does not change,
    because a restart of the service would not help. The log says when a check begins
    to fail, and when it ends to.

    Checks run if ``ops_bind`` or ``ready_path`` is set, until the worker drains.
    Otherwise, and under another server, this function does nothing else than to
    remember the check.

    Args:
        name: of what is checked, for logs and answers.
        check: an async function without arguments.
        timeout: seconds; more than 0.
        period: seconds; more than 0. A worker looks once a second what is due.

    Raises:
        TypeError: *check* cannot be called.
        ValueError: *timeout* or *period* is not more than 0.

    """
    if not callable(check):
        raise TypeError(f"the check {name!r} is no function: {check!r}")
    if not (timeout > 0 and period > 0):
        raise ValueError(f"the check {name!r} needs a timeout and a period above 0")
    registered[name] = Check(name, check, timeout, period)


def remove_check(name: str) -> None:
    """Forget the check with this name; does nothing if there is none."""
    registered.pop(name, None)
