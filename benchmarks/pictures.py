"""The pictures of the figures: bars, curves, the spread of connections."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import timeline
from growth import DIMENSIONS
from servers import PRELOAD
from svg import Drawing, Point
from tails import QUANTILES
from works import WORKS

OURS = "uvworker"
README = ("plain", "FastAPI", "new connections")  # one row: README has two screens

WIDTH = 860  # pixels; GitHub's column
COLUMNS = 3
LETTER = 7  # pixels of a letter in a server's name, at most
NUMBERS = 46  # pixels for a figure behind its bar
BAR, LEADING = 11, 16  # pixels of a bar, and from one to the next
GAP = 18  # pixels between panels
HEAD = 24  # pixels above the bars of a panel

# Where one server needs far more than all others, its bar is cut at this multiple of
# the median, so that the others can be told apart; its figure says how much it is.
CUT = 2.5

Results = dict[str, Any]
Bars = list[tuple[str, float]]


def draw(results: Results, directory: Path) -> None:
    """Write a picture of each part that was measured."""
    directory.mkdir(exist_ok=True)
    for name, (part, make) in PICTURES.items():
        if results.get(part):
            make(results[part]).write(directory / f"{name}.svg")


# -- bars


def bars(title: str, panels: dict[str, Bars], unit: str) -> Drawing:
    """Draw a panel of bars for each of *panels*; shorter is better."""
    rows = math.ceil(len(panels) / COLUMNS)
    height = HEAD + LEADING * max(map(len, panels.values())) + GAP
    columns = min(COLUMNS, len(panels))
    width = (WIDTH + GAP) / columns - GAP
    says = f"{title}. Shorter is better. " + " ".join(
        f"{name}: {', '.join(f'{server} {figure:.4g}' for server, figure in panel)}."
        for name, panel in panels.items()
    )
    drawing = Drawing(WIDTH, 30 + rows * height - GAP, title, says)
    drawing.text(0, 16, f"{title}, {unit}; shorter is better", "title")
    for number, (name, panel) in enumerate(panels.items()):
        x = number % columns * (width + GAP)
        _panel(drawing, (x, 30 + number // columns * height), width, name, panel)
    return drawing


def _panel(
    drawing: Drawing, corner: Point, width: float, name: str, panel: Bars
) -> None:
    x, y = corner
    drawing.text(x, y + 14, name)
    names = max(LETTER * len(server) for server, _ in panel)
    figures = sorted(figure for _, figure in panel)
    most = min(figures[-1], CUT * figures[len(figures) // 2])
    room = width - names - NUMBERS
    for number, (server, figure) in enumerate(panel):
        top = y + HEAD + number * LEADING
        length = room * min(figure, most) / most
        drawing.text(x + names - 6, top + 10, server, "small right")
        kind = "ours" if server.startswith(OURS) else "peer"
        drawing.box(x + names, top, length, BAR, kind)
        if figure > most:
            drawing.box(x + names + length - 12, top - 1, 4, BAR + 2, "paper")
        drawing.text(x + names + length + 5, top + 10, _short(figure), "small")


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.1f}"  # noqa: PLR2004


def cpu(works: Results, names: Sequence[str] = tuple(WORKS)) -> Drawing:
    panels = {
        name: [(server, one["cpu"]) for server, one in works[name].items()]
        for name in names
        if works.get(name)
    }
    return bars("CPU time per request", panels, "µs")


def summary(works: Results) -> Drawing:
    return cpu(works, README)


def tails(found: Results) -> Drawing:
    rate = next(iter(found.values()))["rate"]
    panels = {
        quantile: [(server, one[quantile] / 1000) for server, one in found.items()]
        for quantile in QUANTILES
    }
    return bars(f"Latency at {rate} requests per second, two workers", panels, "ms")


def memory(found: Results) -> Drawing:
    panel = []
    for server, one in found.items():
        for key, suffix in (("memory", ""), (PRELOAD, ", preload")):
            if key in one:
                panel.append((server + suffix, one[key] / 1e6))
    return bars(
        "Memory of four workers of a FastAPI app",
        {"without and with --preload": panel},
        "MB",
    )


# -- curves

PLOT = 140  # pixels high
AXIS = 56  # pixels left of a plot
FAR, STEEP = 100, 8  # ratios from which on an axis, across or up, is logarithmic


def growth(dimensions: Results) -> Drawing:
    says = "CPU time per request as one thing grows. " + " ".join(
        f"{DIMENSIONS[name].title}, {server}: {_said(curve)}."
        for name, curves in dimensions.items()
        for server, curve in curves.items()
    )
    drawing = Drawing(WIDTH, 452, "Growth", says)
    drawing.text(0, 16, "CPU time per request, µs", "title")
    servers = list(dict.fromkeys(name for one in dimensions.values() for name in one))
    for number, server in enumerate(servers):
        x = 260 + number * 150
        drawing.curve([(x, 12), (x + 36, 12)], number)
        drawing.text(x + 46, 16, server)
    for number, (name, curves) in enumerate(dimensions.items()):
        corner = (number % 2 * (WIDTH + GAP) / 2, 40 + number // 2 * (PLOT + 66))
        _plot(drawing, corner, DIMENSIONS[name].title, [curves[one] for one in servers])
    return drawing


def _said(curve: dict[str, list[float]]) -> str:
    pairs = zip(curve["values"], curve["cpu"], strict=True)
    return ", ".join(f"{value:g} {cpu:.1f}" for value, cpu in pairs)


def _plot(
    drawing: Drawing, corner: Point, title: str, curves: list[dict[str, list[float]]]
) -> None:
    """Draw one dimension."""
    x, y = corner
    values = [value for curve in curves for value in curve["values"]]
    figures = [cpu for curve in curves for cpu in curve["cpu"]]
    if not figures:
        return
    width = (WIDTH - GAP) / 2 - AXIS - 24
    across = _scale(min(values), max(values), x + AXIS, width, FAR)
    lowest = min(figures) / 1.2 if max(figures) > STEEP * min(figures) else 0
    up = _scale(lowest, max(figures) * 1.15, y + 20 + PLOT, -PLOT, STEEP)
    drawing.text(x + AXIS, y + 10, title)
    for mark in _marks(lowest, max(figures) * 1.15):
        drawing.line((x + AXIS, up(mark)), (x + (WIDTH - GAP) / 2, up(mark)))
        drawing.text(x + AXIS - 6, up(mark) + 4, f"{mark:,g}", "small right faint")
    for value in sorted(set(values)):
        drawing.text(across(value), y + PLOT + 36, f"{value:,}", "small middle faint")
    for number, curve in enumerate(curves):
        pairs = zip(curve["values"], curve["cpu"], strict=True)
        drawing.curve([(across(value), up(cpu)) for value, cpu in pairs], number)


def _scale(
    low: float, high: float, begin: float, length: float, wide: int
) -> Callable[[float], float]:
    """Return what maps *low* to *high* to pixels, by logarithms if that is *wide*."""
    if low > 0 and high > wide * low:
        whole = math.log(high / low)
        return lambda value: begin + length * math.log(value / low) / whole
    whole = high - low or 1
    return lambda value: begin + length * (value - low) / whole


def _marks(low: float, high: float) -> list[float]:
    """Return round numbers between the two."""
    if low > 0:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
        marks = (by * 10.0**power for power in powers for by in (1, 2, 5))
        return [mark for mark in marks if low <= mark <= high]
    step = 10 ** math.floor(math.log10(high / 2))
    step = next(step * by for by in (1, 2, 5, 10) if high / (step * by) <= 5)  # noqa: PLR2004
    return [step * number for number in range(int(high / step) + 1)]


# -- connections

OWNER = 96  # pixels for a server's name


def spread(found: Results) -> Drawing:
    """Draw a row of four lengths for each server; equal is best."""
    rows = {
        name: one["connections"]
        for name, one in found.items()
        if one.get("connections")
    }
    title = "400 connections, as four workers got them; equal parts are best"
    says = " ".join(
        f"{name}: {', '.join(map(str, row))}." for name, row in rows.items()
    )
    drawing = Drawing(WIDTH, 40 + 26 * len(rows), title, f"{title}. {says}")
    drawing.text(0, 16, title, "title")
    for number, (name, row) in enumerate(rows.items()):
        _row(drawing, 32 + 26 * number, name, row)
    return drawing


def _row(drawing: Drawing, y: float, name: str, counts: list[int]) -> None:
    drawing.text(OWNER, y + 14, name, "right")
    x, whole = OWNER + 8.0, WIDTH - OWNER - 8
    for count in counts:
        width = whole * count / sum(counts)
        kind = "ours" if name == OURS else "peer"
        drawing.box(x, y, max(width - 3, 0), 20, kind)
        if width > 26:  # noqa: PLR2004  pixels
            words = "within middle" if name == OURS else "middle"
            drawing.text(x + width / 2, y + 14, str(count), words)
        x += width


# By name: the part of the figures, and what draws it.
PICTURES: dict[str, tuple[str, Callable[[Results], Drawing]]] = {
    "cpu": ("works", cpu),
    "summary": ("works", summary),
    "tails": ("tails", tails),
    "growth": ("growth", growth),
    "memory": ("deployment", memory),
    "spread": ("deployment", spread),
    "handover": ("handover", timeline.handover),
}
