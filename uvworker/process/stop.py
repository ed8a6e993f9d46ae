"""How a stop divides its time: between requests, the lifespan and the exit.

The rule: the process ends before the arbiter kills it, so that hooks and `atexit` run.
"""

from __future__ import annotations

from dataclasses import dataclass

# The arbiter kills at exactly `graceful_timeout`. The reserve before it is for
# cancelling what still runs, the lifespan's shutdown, and the hooks.
RESERVE_SHARE, RESERVE_MOST = 0.25, 3.0  # of graceful_timeout; seconds
QUIT_TIMEOUT = 1.8  # seconds; gunicorn gives a quick shutdown two
CANCEL_WINDOW = 0.3  # seconds for cancelled requests to run their `finally`


@dataclass(frozen=True, slots=True)
class Deadlines:
    """When each part of a stop must be over, in seconds of the loop's clock."""

    accept: float  # until then new connections are accepted
    notice: float  # then requests in flight get a disconnect
    requests: float  # then requests in flight are cancelled
    lifespan: float  # then the app's shutdown is cancelled
    process: float  # then the process exits, whatever it waits for

    @classmethod
    def drain(
        cls, now: float, graceful_timeout: float, drain_delay: float
    ) -> Deadlines:
        """Divide gunicorn's ``graceful_timeout``, which begins *now*."""
        end = now + graceful_timeout
        reserve = min(RESERVE_MOST, graceful_timeout * RESERVE_SHARE)
        notice = end - 2 * reserve
        return cls(
            accept=min(now + drain_delay, notice),
            notice=notice,
            requests=end - reserve,
            lifespan=end - reserve / 4,
            process=end - reserve / 8,
        )

    @classmethod
    def quit(cls, now: float) -> Deadlines:
        """Give no time to requests and a little to the lifespan."""
        end = now + QUIT_TIMEOUT
        return cls(now, now, now, end - CANCEL_WINDOW, end)
