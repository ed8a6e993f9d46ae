"""The page at `/`: what a service does now, for people.

It is complete without JavaScript. With it, the page asks for `SECTIONS` once a second
and replaces what has changed. The rule: nothing is loaded from elsewhere, and nothing
runs but the script that is in the page (`POLICY`).
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template

from . import health, tables
from .facts import LogLine, Point, Recent, Reloads, ServiceFacts
from .figures import UNKNOWN, age, duration, estimate, megabytes, rate
from .markup import Markup, fill, heading, join
from .sparkline import Values, sparkline

HTML = b"text/html; charset=utf-8"

# Read when the arbiter imports this room: a worker may have lost the right to.
_DIRECTORY = Path(__file__).with_name("assets")
_PAGE = Template((_DIRECTORY / "page.html").read_text())
_STYLE = (_DIRECTORY / "page.css").read_text()
_SCRIPT = (_DIRECTORY / "page.js").read_text()


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


POLICY = (
    f"default-src 'none'; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
).encode()


MARKS = {
    "good": "✔",
    "warn": "▲",
    "bad": "✖",
}  # the colour says nothing that they do not


def render(facts: ServiceFacts, recent: Recent, paths: Iterable[str]) -> bytes:
    """Return the whole page; *paths*: what else is answered."""
    parts = sections(facts, recent)
    text = _PAGE.substitute(
        title=parts.pop("title"),
        style=_STYLE,
        script=_SCRIPT,
        name=fill("{}", facts.name),
        now=_moment(time.time()),
        sections="\n".join(
            f'<section id="{name}" aria-labelledby="{name}-title">{part}</section>'
            for name, part in parts.items()
        ),
        paths=join(fill('<li><a href="{0}">{0}</a></li>', path[1:]) for path in paths),
    )
    return text.encode(errors="replace")


def sections(facts: ServiceFacts, recent: Recent) -> dict[str, Markup]:
    """Return the parts of the page that change, by the id of their element."""
    return {
        "title": fill("{} · {}", facts.name, _verdict(facts)[1].partition(":")[0]),
        "summary": _summary(facts),
        "trend": _trend(recent.points),
        "workers": tables.workers(facts.workers),
        "requests": tables.requests(facts.requests_in_flight),
        "log": _log(recent.warnings),
        "service": _service(facts),
    }


def _verdict(facts: ServiceFacts) -> tuple[str, str]:
    """Return the verdict's class, and the sentence."""
    states = {worker.id: tables.state_of(worker) for worker in facts.workers}
    serving = sum(state == "serving" for state in states.values())
    serve = f"{serving} of {facts.wanted} workers serve"
    live, ready = health.live(facts), health.ready(facts)
    if not (live.well and ready.well):
        reasons = "; ".join(live.reasons or ready.reasons)
        return "bad", f"{'Not ready' if live.well else 'Not live'}: {reasons} ({serve})"
    if serving < facts.wanted:
        others = "".join(
            f"; worker {worker_id} is {state}"
            for worker_id, state in states.items()
            if state != "serving"
        )
        return "warn", f"Ready: only {serve}{others}"
    return "good", f"Ready: {serve}"


def _summary(facts: ServiceFacts) -> Markup:
    kind, text = _verdict(facts)
    figures = {
        "In flight": f"{sum(worker.in_flight for worker in facts.workers):,}",
        "Connections": f"{sum(worker.connections for worker in facts.workers):,}",
        "Backlog": _backlog(facts),
        "Memory": megabytes([worker.rss for worker in facts.workers]),
        "Workers ended": f"{sum(facts.exits.values()):,}",
        "Up": age(time.time() - facts.started_at),
    }
    return fill(
        '<h2 id="summary-title" class="skip">State</h2>'
        '<p class="verdict {kind}" role="status">'
        '<span class="{kind}" aria-hidden="true">{mark}</span> {text}</p>'
        '<dl class="figures">{figures}</dl>',
        kind=kind,
        mark=MARKS[kind],
        text=text,
        figures=_pairs(figures),
    )


def _pairs(values: Mapping[str, object]) -> Markup:
    return join(
        fill("<div><dt>{}</dt><dd>{}</dd></div>", *pair) for pair in values.items()
    )


def _backlog(facts: ServiceFacts) -> str:
    waiting = [x.waiting for x in facts.listeners if x.waiting is not None]
    return f"{sum(waiting):,}" if waiting else UNKNOWN


# The last minutes

NOTHING = Point(0.0, 0.0, 0.0, None, None, None)


def _trend(points: Sequence[Point]) -> Markup:
    last = points[-1] if points else NOTHING
    slowest = max((p.p99 for p in points if p.p99 is not None), default=None)
    cards = (
        _card(
            "Requests a second",
            rate(last.rate),
            f"peak {rate(max((p.rate for p in points), default=0.0))}",
            [(p.ago, p.rate) for p in points],
        ),
        _card(
            "Time to answer, 99 % of requests",
            estimate(last.p99),
            f"half (dashed) {estimate(last.p50)} · mean {duration(last.mean)} · "
            f"peak {estimate(slowest)}",
            [(p.ago, p.p99) for p in points],
            [(p.ago, p.p50) for p in points],
        ),
        _card(
            "Server errors (5xx) a second",
            rate(last.errors),
            f"peak {rate(max((p.errors for p in points), default=0.0))}",
            [(p.ago, p.errors) for p in points],
            kind="errors",
        ),
    )
    return fill(
        '{}<div class="cards">{}</div>',
        heading("trend", "The last five minutes"),
        join(cards),
    )


def _card(
    head: str,
    figure: str,
    more: str,
    values: Values,
    below: Values = (),
    *,
    kind: str = "",
) -> Markup:
    return fill(
        '<div class="card {kind}"><h3>{head}</h3><p class="figure">{figure}</p>{chart}'
        "<p>{more}</p></div>",
        kind=kind,
        head=head,
        figure=figure,
        chart=sparkline(f"{head}, last five minutes", values, below),
        more=more,
    )


# The log, and what is said once


def _log(lines: Sequence[LogLine]) -> Markup:
    """Return the section of the log, in which lines of several workers are one."""
    groups: dict[tuple[str, str], list[LogLine]] = {}
    for line in reversed(lines):
        groups.setdefault((line.level, line.text), []).append(line)
    items = join(
        fill(
            '<li><p>{} <b class="{}">{}</b> <span>{}</span></p>{}</li>',
            _moment(group[0].time),
            "warn" if level == "WARNING" else "bad",
            level,
            _speakers(group),
            text,
        )
        for (level, text), group in groups.items()
    )
    return fill(
        '{}<ul class="lines">{}</ul>',
        heading("log", "The last warnings of the log"),
        items or fill('<li class="none">None.</li>'),
    )


def _speakers(lines: Sequence[LogLine]) -> str:
    """Return who logged a line, and how often."""
    ids = sorted({line.worker for line in lines if line.worker is not None})
    names = [f"worker{'s' * (len(ids) > 1)} {', '.join(map(str, ids))}"] if ids else []
    if any(line.worker is None for line in lines):
        names.append("arbiter")
    count = sum(line.count for line in lines)
    return ", ".join(names) + (f" · {count:,} times" if count > 1 else "")


def _service(facts: ServiceFacts) -> Markup:
    values = {
        "Started": _moment(facts.started_at),
        "Generation": facts.reloads.generation,
        "Reloads": _reloads(facts.reloads),
        "Workers started": f"{facts.starts:,}",
        "Workers ended": _counted(facts.exits) or "none",
        "Arbiter": f"pid {facts.arbiter}",
        "Listens on": ", ".join(listener.address for listener in facts.listeners),
        "Versions": ", ".join(f"{name} {v}" for name, v in facts.versions.items()),
    }
    return fill(
        '{}<dl class="facts">{}</dl>',
        heading("service", "The service"),
        join(fill("<dt>{}</dt><dd>{}</dd>", *pair) for pair in values.items()),
    )


OUTCOMES = {
    "good": ("good", "✔ worked"),
    "failed": ("bad", "✖ failed; old workers serve on"),
    "under way": ("warn", "○ under way"),
    "overtaken": ("", "the next one came before it ended"),
}


def _reloads(reloads: Reloads) -> Markup:
    items = (
        fill(
            '<li>{} <span class="{}">{}</span></li>', _moment(reload.began), kind, text
        )
        for reload in reversed(reloads.latest)
        for kind, text in [OUTCOMES[reload.outcome]]
    )
    return fill("<ul>{}</ul>", join(items)) if reloads.latest else fill("none")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(
        f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count
    )


def _moment(seconds: float) -> Markup:
    """Return a time as UTC: the server does not know where its reader is."""
    at = time.gmtime(seconds)
    return fill(
        '<time datetime="{}">{} UTC</time>',
        time.strftime("%Y-%m-%dT%H:%M:%SZ", at),
        time.strftime("%Y-%m-%d %H:%M:%S", at),
    )
