"""Small line charts as inline SVG, which say in words what they show."""

from __future__ import annotations

from collections.abc import Sequence

from .markup import Markup, fill
from .trend import PERIOD, SAMPLES

WIDTH, HEIGHT = 300, 48  # of the drawing; the page stretches it
SECONDS = PERIOD * (SAMPLES - 1)  # from the left edge to the right one
TOP = 3  # kept free, so that the stroke of the highest value is not cut off

Values = Sequence[tuple[float, float | None]]  # seconds ago, value


def sparkline(label: str, values: Values, below: Values = ()) -> Markup:
    """Return a chart of *values*, on a scale from 0 to the highest one.

    *label*: what a screen reader says instead.
    *below*: a second, dashed line of values that are not higher. A gap in a line is
    where a value is None.
    """
    highest = max((v for _, v in values if v is not None), default=0.0) or 1.0
    line = _path(values, highest)
    return fill(
        '<svg role="img" aria-label="{label}" viewBox="0 0 {width} {height}"'
        ' preserveAspectRatio="none"><path class="area" d="{area}"/>'
        '<path d="{line}"/><path class="p50" d="{below}"/></svg>',
        label=label,
        width=WIDTH,
        height=HEIGHT,
        area="".join(map(_closed, line.split("M")[1:])),
        line=line,
        below=_path(below, highest),
    )


def _path(values: Values, highest: float) -> str:
    """Return the commands of a path; it moves over what is not known."""
    commands, drawn = [], False
    for ago, value in values:
        if value is not None:
            x = WIDTH * (1 - ago / SECONDS)
            y = HEIGHT - 1 - (HEIGHT - 1 - TOP) * value / highest
            commands.append(f"{'L' if drawn else 'M'}{x:.1f} {y:.1f}")
        drawn = value is not None
    return "".join(commands)


def _closed(line: str) -> str:
    """Return the area between a line, without its first command, and the bottom."""
    return f"M{line}V{HEIGHT}H{line.partition(' ')[0]}Z"
