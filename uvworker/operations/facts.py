"""What is known about a service at one moment, as frozen values with units.

The rule: this room neither gathers nor judges. Times are seconds on the clock that all
processes share (``time.monotonic()``), unless a comment says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """One living worker.

    Args:
        id: its number, which no other living worker has.
        pid: its process.
        state: ``booting``, ``serving``, ``draining``, ``leaving`` or ``failed``.
        retiring: it serves, but is about to drain.
        uptime: seconds since it was forked.
        boot_seconds: from the fork to the first connection; None before that.
        silence: seconds since its last heartbeat.
        lag: seconds by which its last heartbeat was late, or the next one is by now.
        worst_lag: the largest of the last minute.
        connections: open now, WebSockets included.
        websockets: open now.
        in_flight: requests that the app has not answered yet.
        requests: answered since it was forked.
        rss: resident memory in bytes; None if unknown.
        cpu_seconds: user and system time; None if unknown.
        last_error: the last one that it logged; None without any.
        descriptors: open now; None if unknown.
        most_descriptors: as many it may have; None if unknown.
        certificate_expires: in seconds since the epoch; None if there is none.
        healthy: whether no check of the app fails.
        failed_boots: of this id, in a row, until now.
        problems: what is wrong, in words.

    """

    id: int
    pid: int
    state: str
    retiring: bool = False
    uptime: float = 0.0
    boot_seconds: float | None = None
    silence: float = 0.0
    lag: float = 0.0
    worst_lag: float = 0.0
    connections: int = 0
    websockets: int = 0
    in_flight: int = 0
    requests: int = 0
    rss: int | None = None
    cpu_seconds: float | None = None
    last_error: str | None = None
    descriptors: int | None = None
    most_descriptors: int | None = None
    certificate_expires: int | None = None
    healthy: bool = True
    failed_boots: int = 0
    problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Times:
    """How often something happened, and the seconds that it took in all."""

    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted since the start, by living workers and by dead ones.

    Args:
        requests: answered, by the id of the worker.
        cpu_seconds: user and system time, by the id of the worker.
        accepted: connections.
        accept_pauses: by reason: ``full`` at `worker_connections`, ``starved`` without
            a free descriptor.
        refused: requests that the server refused itself, by reason.
        boots: workers that came to serve, and how long that took.
        stalls: of event loops, as `stall_warning` has them.
        collections: of garbage, by generation.

    """

    requests: Mapping[int, int] = field(default_factory=dict)
    cpu_seconds: Mapping[int, float] = field(default_factory=dict)
    accepted: int = 0
    accept_pauses: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    boots: Times = Times(0, 0.0)
    stalls: Times = Times(0, 0.0)
    collections: Mapping[int, Times] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reload:
    """When a reload began, in seconds since the epoch, and what became of it.

    *outcome*: ``good``, ``failed``, ``under way``, or ``overtaken`` by the next one.
    """

    began: float
    outcome: str


@dataclass(frozen=True, slots=True)
class Reloads:
    """What became of reloads.

    Args:
        generation: the number of the newest generation of workers; 1 for the first.
        good: how many replaced all workers.
        failed: how many left an old worker, because new ones could not take over.
        last: when the last one began, in seconds since the epoch; None without any.
        last_failed: how that went; None without any, or while it goes on.
        latest: the last few, the oldest first.

    """

    generation: int = 1
    good: int = 0
    failed: int = 0
    last: float | None = None
    last_failed: bool | None = None
    latest: Sequence[Reload] = ()


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """One request in flight: *path* without the query, *age* in seconds."""

    worker: int
    method: str
    path: str
    age: float


@dataclass(frozen=True, slots=True)
class Generation:
    """The workers since the start or the last reload (HUP).

    Args:
        number: 1 after the start, one more after each reload.
        began_at: seconds since the epoch.
        state: ``booting``; ``serving``; ``failed`` for a reload, if workers from before
            it serve on.

    """

    number: int = 1
    began_at: int = 0
    state: str = "serving"


@dataclass(frozen=True, slots=True)
class Listener:
    """One listening socket: its address, and how many connections wait in it.

    *waiting* and *limit* are None if the kernel does not report them.
    """

    address: str
    waiting: int | None
    limit: int | None


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """One arbiter and its workers.

    Args:
        name: of the service, gunicorn's ``proc_name``.
        versions: by the name of the package.
        arbiter: its pid.
        arbiter_alive: whether that process lives.
        started_at: when it started, in seconds since the epoch.
        wanted: workers as configured.
        ever_served: how many workers have served since the start, dead ones too.
        timeout: gunicorn's, seconds; 0 for none.
        boot_timeout: this package's, seconds; None for none.
        workers: the living ones, by id.
        starts: workers forked since the start.
        exits: workers that ended, by reason.
        signals: those of them that were killed, by the signal's name.
        reloads: what became of them.
        connections_limit: of each worker; None for as many as there are descriptors.
        listeners: those of the app.
        counts: other counts.
        answered: counts of requests; see `access.tally`.
        generation: the newest one.
        requests_in_flight: the oldest first; None if `ops_requests` is not set.

    """

    versions: Mapping[str, str]
    arbiter: int
    arbiter_alive: bool
    started_at: float
    wanted: int
    ever_served: int
    timeout: float
    boot_timeout: float | None
    workers: Sequence[WorkerFacts]
    starts: int = 0
    exits: Mapping[str, int] = field(default_factory=dict)
    signals: Mapping[str, int] = field(default_factory=dict)
    reloads: Reloads = Reloads()
    connections_limit: int | None = None
    listeners: Sequence[Listener] = ()
    counts: Counts = field(default_factory=Counts)
    answered: Sequence[float] = ()
    generation: Generation = field(default_factory=Generation)
    requests_in_flight: Sequence[RequestFacts] | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the log.

    Args:
        time: when it was written last, in seconds since the epoch.
        worker: the number of the worker; None for the arbiter.
        count: how often that process has written it.

    """

    time: float
    level: str
    worker: int | None
    pid: int
    text: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Point:
    """What happened between two moments of the last minutes.

    Args:
        ago: seconds since the second one.
        rate: answered requests a second.
        errors: those with a status of 500 or more, a second.
        mean: their mean duration in seconds; None if there was no request.
        p50: seconds within which half of them were answered, estimated from buckets.
        p99: the same for 99 %.

    """

    ago: float
    rate: float
    errors: float
    mean: float | None
    p50: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Recent:
    """What happened lately: *points* and *warnings*, both with the last one last."""

    points: Sequence[Point] = ()
    warnings: Sequence[LogLine] = ()
