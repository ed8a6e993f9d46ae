"""The tables of the page: a row for each worker, and for each request in flight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .facts import RequestFacts, WorkerFacts
from .figures import UNKNOWN, age, duration, megabytes
from .health import SILENT
from .markup import Markup, fill, heading, join

SHOWN = 50  # requests in flight, the oldest ones

Column = tuple[str, str, Callable[[WorkerFacts], object]]  # head, class, value

STATES = {
    "serving": ("good", "●"),
    "booting": ("warn", "○"),
    "draining": ("warn", "◐"),
    "leaving": ("warn", "◌"),
    "retiring": ("warn", "◐"),
    "unhealthy": ("bad", "▲"),
    "blocked": ("bad", "■"),
    "failed": ("bad", "✖"),
}


def state_of(worker: WorkerFacts) -> str:
    """Return the worker's state, with what an operator has to know of it."""
    if worker.state in ("serving", "draining") and worker.silence > SILENT:
        return "blocked"
    if worker.state != "serving":
        return worker.state
    if worker.retiring:
        return "retiring"
    return "serving" if worker.healthy else "unhealthy"


def _state(worker: WorkerFacts) -> Markup:
    state = state_of(worker)
    kind, mark = STATES.get(state, ("", ""))
    return fill(
        '<span class="{}"><span aria-hidden="true">{}</span> {}</span>',
        kind,
        mark,
        state,
    )


def _problems(worker: WorkerFacts) -> Markup:
    lines = [fill("<p>{}</p>", problem) for problem in worker.problems]
    if worker.last_error:
        lines.append(fill("<p>last error: {}</p>", worker.last_error))
    return join(lines) or fill("none")


COLUMNS: Sequence[Column] = (
    ("pid", "", lambda w: w.pid),
    ("state", "text", _state),
    ("age", "", lambda w: age(w.uptime)),
    ("requests", "", lambda w: f"{w.requests:,}"),
    ("in flight", "", lambda w: f"{w.in_flight:,}"),
    ("connections", "", lambda w: f"{w.connections:,}"),
    ("loop lag", "", lambda w: f"{w.lag * 1000:,.0f} ms"),
    ("memory", "", lambda w: megabytes([w.rss])),
    (
        "CPU",
        "",
        lambda w: UNKNOWN if w.cpu_seconds is None else f"{w.cpu_seconds:,.1f} s",
    ),
    ("problems", "text wide", _problems),
)


def workers(facts: Sequence[WorkerFacts]) -> Markup:
    """Return the section of the workers."""
    heads = [("worker", "text"), *((head, kind) for head, kind, _ in COLUMNS)]
    rows = [[_link(w.id), *(value(w) for _, _, value in COLUMNS)] for w in facts]
    return fill("{}{}", heading("workers", "Workers"), _table(heads, rows))


def _link(worker_id: int) -> Markup:
    """Return the worker's id, which leads to what it does now."""
    return fill('<a href="stacks/{0}" title="Stacks of worker {0}">{0}</a>', worker_id)


def requests(facts: Sequence[RequestFacts] | None) -> Markup:
    """Return the section of the requests in flight; None if they are not listed."""
    heads = [("age", "text"), ("worker", ""), ("method", "text"), ("path", "text wide")]
    if facts is None:
        body = fill('<p class="none">The option ops_requests lists them.</p>')
    elif facts:
        rows = [[duration(r.age), r.worker, r.method, r.path] for r in facts[:SHOWN]]
        body = _table(heads, rows)
    else:
        body = fill('<p class="none">None.</p>')
    return fill("{}{}", heading("requests", "Requests in flight"), body)


def _table(
    heads: Sequence[tuple[str, str]], rows: Iterable[Sequence[object]]
) -> Markup:
    """Return a table; *heads*: text and CSS class of each column, the first is a head.

    The roles are those of the elements, which the narrow page displays as blocks.
    """
    return fill(
        '<table role="table"><thead role="rowgroup"><tr role="row">{heads}</tr></thead>'
        '<tbody role="rowgroup">{rows}</tbody></table>',
        heads=join(
            fill('<th role="columnheader" scope="col" class="{}">{}</th>', kind, head)
            for head, kind in heads
        ),
        rows=join(fill('<tr role="row">{}</tr>', _cells(heads, row)) for row in rows),
    )


def _cells(heads: Sequence[tuple[str, str]], row: Sequence[object]) -> Markup:
    first, *others = (
        (kind, head, value) for (head, kind), value in zip(heads, row, strict=True)
    )
    return join(
        [
            fill(
                '<th role="rowheader" scope="row" class="{}" data-head="{}">{}</th>',
                *first,
            ),
            *(
                fill('<td role="cell" class="{}" data-head="{}">{}</td>', *cell)
                for cell in others
            ),
        ]
    )
