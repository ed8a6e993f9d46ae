"""Metric families as text for Prometheus.

There is no client library, because its registry is for live objects, and here the facts
are read at each scrape. The tests parse the text with Prometheus' own parser.

Source: Prometheus text format 0.0.4; OpenMetrics 1.0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from .facts import ServiceFacts, WorkerFacts

TEXT = b"text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = b"application/openmetrics-text; version=1.0.0; charset=utf-8"

Labels: TypeAlias = Mapping[str, object]
Sample: TypeAlias = tuple[str, Labels, float]  # suffix of the name, labels, value
Samples: TypeAlias = Callable[[ServiceFacts], Iterator[Sample]]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name without the suffix of its samples, and their source."""

    name: str
    type: str  # gauge, counter, histogram, summary or info
    help: str
    samples: Samples


def render(
    families: Sequence[Family], facts: ServiceFacts, *, openmetrics: bool = False
) -> str:
    """Return *families* as text, with the values of *facts*."""
    lines = [
        line for family in families for line in _family(family, facts, openmetrics)
    ]
    return "\n".join([*lines, *(["# EOF"] if openmetrics else [])]) + "\n"


def _family(family: Family, facts: ServiceFacts, openmetrics: bool) -> Iterator[str]:
    samples = list(family.samples(facts))
    if not samples:
        return
    name, kind = family.name, family.type
    if not openmetrics:  # a counter has the name of its sample, and there is no info
        name += {"counter": "_total", "info": "_info"}.get(kind, "")
        kind = "gauge" if kind == "info" else kind
    yield f"# HELP {name} {family.help}"
    yield f"# TYPE {name} {kind}"
    for suffix, labels, value in samples:
        yield f"{family.name}{suffix}{_labels(labels)} {_number(value)}"


def _labels(labels: Labels) -> str:
    pairs = [f'{name}="{_escaped(str(value))}"' for name, value in labels.items()]
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return str(value)


# Where samples come from


def one(value: Callable[[ServiceFacts], float | None], suffix: str = "") -> Samples:
    """Return one sample, if its value is known."""

    def samples(facts: ServiceFacts) -> Iterator[Sample]:
        if (known := value(facts)) is not None:
            yield suffix, {}, known

    return samples


def each(value: Callable[[WorkerFacts], float | None]) -> Samples:
    """Return one sample for each worker whose value is known."""

    def samples(facts: ServiceFacts) -> Iterator[Sample]:
        for worker in facts.workers:
            if (known := value(worker)) is not None:
                yield "", {"worker": worker.id}, known

    return samples


def by(label: str, values: Callable[[ServiceFacts], Mapping[Any, float]]) -> Samples:
    """Return one sample of a counter for each value of *label*."""

    def samples(facts: ServiceFacts) -> Iterator[Sample]:
        for value, count in values(facts).items():
            yield "_total", {label: value}, count

    return samples
