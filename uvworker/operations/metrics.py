"""The metrics of a service: a table of families.

The rule: a metric has OpenTelemetry's name if there is one, in Prometheus' spelling;
all others are `uvworker_...`. A label has a fixed set of values, or the ids of workers,
of which there are at most twice as many as workers: no client can add any.

A worker's id is its label where a sum would hide something. A worker that is gone has
no gauges, and its counts stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..access.tally import BOUNDS, Series, series
from .exposition import Family, Labels, Sample, Samples, by, each, one
from .facts import ServiceFacts, Times

# Usual ends of processes: present at 0, so that the first one is seen as an increase.
SIGNALS = ("SIGKILL", "SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL")

STATES = ("booting", "serving", "draining", "leaving", "failed")


def _info(facts: ServiceFacts) -> Iterator[Sample]:
    versions = dict(facts.versions)
    yield "_info", {"version": versions.pop("uvworker", ""), **versions}, 1


def _states(facts: ServiceFacts) -> Iterator[Sample]:
    for state in STATES:
        yield "", {"state": state}, sum(w.state == state for w in facts.workers)


def _exits(facts: ServiceFacts) -> Iterator[Sample]:
    """Yield ends by reason; those that were killed, by the signal as well."""
    for reason, count in facts.exits.items():
        if reason != "killed":
            yield "_total", {"reason": reason}, count
    for name, count in {**dict.fromkeys(SIGNALS, 0), **facts.signals}.items():
        yield "_total", {"reason": "killed", "signal": name}, count


def _reloads(facts: ServiceFacts) -> Iterator[Sample]:
    yield "_total", {"result": "good"}, facts.reloads.good
    yield "_total", {"result": "failed"}, facts.reloads.failed


def _last_reload(facts: ServiceFacts) -> float | None:
    failed = facts.reloads.last_failed
    return None if failed is None else int(not failed)


def _times(labels: Labels, times: Times) -> Iterator[Sample]:
    yield "_count", labels, times.count
    yield "_sum", labels, times.seconds


def _boots(facts: ServiceFacts) -> Iterator[Sample]:
    return _times({}, facts.counts.boots)


def _collections(facts: ServiceFacts) -> Iterator[Sample]:
    for generation, times in facts.counts.collections.items():
        yield from _times({"generation": generation}, times)


def _of(found: Series) -> Labels:
    return {
        "http_request_method": found.method,
        "http_response_status_class": found.status,
    }


def _durations(facts: ServiceFacts) -> Iterator[Sample]:
    for found in series(facts.answered):
        labels, count = _of(found), 0
        for bound, bucket in zip((*BOUNDS, "+Inf"), found.buckets, strict=True):
            count += bucket
            yield "_bucket", {**labels, "le": bound}, count
        yield "_count", labels, count
        yield "_sum", labels, found.seconds


def _bytes(size: Callable[[Series], int]) -> Samples:
    def samples(facts: ServiceFacts) -> Iterator[Sample]:
        for found in series(facts.answered):
            yield "_count", _of(found), found.requests
            yield "_sum", _of(found), size(found)

    return samples


def _waiting(facts: ServiceFacts) -> Iterator[Sample]:
    for listener in facts.listeners:
        if listener.waiting is not None:
            yield "", {"listener": listener.address}, listener.waiting


def _backlog(facts: ServiceFacts) -> Iterator[Sample]:
    for listener in facts.listeners:
        if listener.limit is not None:
            yield "", {"listener": listener.address}, listener.limit


_SERVICE = (
    Family("uvworker_build", "info", "Versions of the server's packages.", _info),
    Family(
        "uvworker_start_time_seconds",
        "gauge",
        "When the arbiter started, in seconds since the epoch.",
        one(lambda f: f.started_at),
    ),
    Family(
        "uvworker_backlog",
        "gauge",
        "Connections that wait to be accepted.",
        _waiting,
    ),
    Family(
        "uvworker_backlog_limit",
        "gauge",
        "Connections that may wait to be accepted.",
        _backlog,
    ),
    Family(
        "uvworker_connections_limit",
        "gauge",
        "Connections that each worker may have open (worker_connections).",
        one(lambda f: f.connections_limit),
    ),
    Family(
        "uvworker_connections_accepted",
        "counter",
        "Connections that were accepted.",
        one(lambda f: f.counts.accepted, "_total"),
    ),
    Family(
        "uvworker_accept_pauses",
        "counter",
        "Pauses in accepting: a worker was full, or had no free descriptor.",
        by("reason", lambda f: f.counts.accept_pauses),
    ),
)

_LIVES = (
    Family(
        "uvworker_workers_configured",
        "gauge",
        "Workers as configured.",
        one(lambda f: f.wanted),
    ),
    Family("uvworker_workers", "gauge", "Workers by state.", _states),
    Family(
        "uvworker_worker_starts",
        "counter",
        "Workers forked since the start.",
        one(lambda f: f.starts, "_total"),
    ),
    Family("uvworker_worker_exits", "counter", "Workers ended, by reason.", _exits),
    Family(
        "uvworker_boot_duration_seconds",
        "summary",
        "Seconds from the fork of a worker until it serves.",
        _boots,
    ),
    Family(
        "uvworker_reloads",
        "counter",
        "Reloads that have ended: all workers were replaced, or an old one stayed.",
        _reloads,
    ),
    Family(
        "uvworker_last_reload_successful",
        "gauge",
        "Whether the last reload replaced all workers; absent while it goes on.",
        one(_last_reload),
    ),
    Family(
        "uvworker_last_reload_timestamp_seconds",
        "gauge",
        "When the last reload began, in seconds since the epoch.",
        one(lambda f: f.reloads.last),
    ),
)

_WORKERS = (
    Family(
        "uvworker_worker_boot_seconds",
        "gauge",
        "Seconds from the fork to the first connection.",
        each(lambda w: w.boot_seconds),
    ),
    Family(
        "uvworker_worker_uptime_seconds",
        "gauge",
        "Seconds since the fork.",
        each(lambda w: w.uptime),
    ),
    Family(
        "uvworker_worker_healthy",
        "gauge",
        "1 if no check of the app fails, else 0.",
        each(lambda w: int(w.healthy)),
    ),
    Family(
        "uvworker_worker_failed_boots",
        "gauge",
        "Failed boots in a row of this number, until now.",
        each(lambda w: w.failed_boots),
    ),
    Family(
        "uvworker_heartbeat_age_seconds",
        "gauge",
        "Seconds since the last heartbeat; there is one a second.",
        each(lambda w: w.silence),
    ),
    Family(
        "uvworker_loop_lag_seconds",
        "gauge",
        "Seconds by which the last heartbeat was late, or the next one is by now.",
        each(lambda w: w.lag),
    ),
    Family(
        "uvworker_loop_lag_worst_seconds",
        "gauge",
        "The largest lag of the last minute.",
        each(lambda w: w.worst_lag),
    ),
    Family(
        "uvworker_connections",
        "gauge",
        "Open connections, WebSockets included.",
        each(lambda w: w.connections),
    ),
    Family(
        "uvworker_websockets", "gauge", "Open WebSockets.", each(lambda w: w.websockets)
    ),
    Family(
        "uvworker_worker_requests",
        "counter",
        "Requests answered, by the id of the worker.",
        by("worker", lambda f: f.counts.requests),
    ),
    Family(
        "uvworker_resident_memory_bytes",
        "gauge",
        "Resident memory.",
        each(lambda w: w.rss),
    ),
    Family(
        "uvworker_cpu_seconds",
        "counter",
        "User and system time, by the id of the worker.",
        by("worker", lambda f: f.counts.cpu_seconds),
    ),
    Family(
        "uvworker_open_descriptors",
        "gauge",
        "Open file descriptors.",
        each(lambda w: w.descriptors),
    ),
    Family(
        "uvworker_descriptors_limit",
        "gauge",
        "File descriptors that the worker may have open.",
        each(lambda w: w.most_descriptors),
    ),
    Family(
        "uvworker_certificate_expiry_timestamp_seconds",
        "gauge",
        "When the certificate in use expires, in seconds since the epoch.",
        each(lambda w: w.certificate_expires),
    ),
    Family(
        "uvworker_loop_stalls",
        "counter",
        "Event loops that did not turn for the seconds of stall_warning.",
        one(lambda f: f.counts.stalls.count, "_total"),
    ),
    Family(
        "uvworker_loop_stalled_seconds",
        "counter",
        "Seconds for which they did not turn, once they do again.",
        one(lambda f: f.counts.stalls.seconds, "_total"),
    ),
    Family(
        "uvworker_gc_pause_seconds",
        "summary",
        "Collections of garbage, and the seconds that they took.",
        _collections,
    ),
)

_REQUESTS = (
    Family(
        "http_server_active_requests",
        "gauge",
        "Requests that the app has not answered yet.",
        each(lambda w: w.in_flight),
    ),
    Family(
        "http_server_request_duration_seconds",
        "histogram",
        "Seconds from a request's head to the end of its response.",
        _durations,
    ),
    Family(
        "http_server_request_body_size_bytes",
        "summary",
        "Bytes of request bodies.",
        _bytes(lambda found: found.received),
    ),
    Family(
        "http_server_response_body_size_bytes",
        "summary",
        "Bytes of response bodies.",
        _bytes(lambda found: found.sent),
    ),
    Family(
        "uvworker_refused_requests",
        "counter",
        "Requests that the server refused itself, by reason.",
        by("reason", lambda f: f.counts.refused),
    ),
)

FAMILIES = (*_SERVICE, *_LIVES, *_WORKERS, *_REQUESTS)
