"""Drawings in SVG: a few shapes, in light and in dark, told apart without colour.

Everything has a class; the style sheet inside the drawing gives it a colour, another
one where the reader prefers dark. Text is in the reader's own sans-serif font, whose
widths are not known: leave room.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 11px } .title { font-weight: 600 } .right { text-anchor: end }
.middle { text-anchor: middle } .faint { fill: #59636e } .paper { fill: #ffffff }
.ours { fill: #0b62c4 } .peer { fill: #b8c0ca } .bad { fill: #cf222e }
.starting { fill: url(#stripes); stroke: #59636e } .stripe { stroke: #59636e }
.serving { fill: #dbe6f3; stroke: #0b62c4 } .leaving { fill: none; stroke: #59636e;
stroke-dasharray: 3 3 } .rule { stroke: #d1d9e0 } .mark { stroke: #1f2328 }
.curve0, .curve1, .curve2 { fill: none; stroke-width: 2 } .curve0 { stroke: #0b62c4 }
.curve1 { stroke: #8a4600; stroke-dasharray: 6 3 } .within { fill: #ffffff }
.curve2 { stroke: #59636e; stroke-dasharray: 2 3 }
.dot0 { fill: #0b62c4 } .dot1 { fill: #8a4600 } .dot2 { fill: #59636e }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .faint { fill: #9198a1 } .paper { fill: #0d1117 }
.ours { fill: #4493f8 } .peer { fill: #4b535d } .bad { fill: #f85149 }
.starting { stroke: #9198a1 } .stripe { stroke: #9198a1 }
.serving { fill: #12263f; stroke: #4493f8 } .leaving { stroke: #9198a1 }
.rule { stroke: #3d444d } .mark { stroke: #e6edf3 } .within { fill: #0d1117 }
.curve0 { stroke: #4493f8 } .curve1 { stroke: #e0823d } .curve2 { stroke: #9198a1 }
.dot0 { fill: #4493f8 } .dot1 { fill: #e0823d } .dot2 { fill: #9198a1 } }
"""
STRIPES = (
    '<defs><pattern id="stripes" width="6" height="6" patternUnits="userSpaceOnUse"'
    ' patternTransform="rotate(45)"><path class="stripe" d="M0 0V6"/></pattern></defs>'
)

Point = tuple[float, float]


class Drawing:
    """A drawing of a size in pixels; (0, 0) is its upper left corner."""

    def __init__(self, width: float, height: float, title: str, says: str) -> None:
        self.width, self.height = width, height
        size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}"'
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} height="{height:g}"',
            ' role="img" aria-labelledby="title desc">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="desc">{escape(says)}</desc>',
            f"<style>{STYLE}</style>",
            STRIPES,
        ]
        self.box(0, 0, width, height, "paper")

    def text(self, x: float, y: float, words: str, kind: str = "") -> None:
        """Write *words* on the line at *y*."""
        self._add("text", kind, escape(words), x=x, y=y)

    def box(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        self._add("rect", kind, "", x=x, y=y, width=width, height=height)

    def line(self, begin: Point, end: Point, kind: str = "rule") -> None:
        ends = {"x1": begin[0], "y1": begin[1], "x2": end[0], "y2": end[1]}
        self._add("line", kind, "", **ends)

    def curve(self, points: list[Point], number: int) -> None:
        """Draw a line with marks; each *number* has its own dashes and marks."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline class="curve{number}" points="{path}"/>')
        for point in points:
            self.dot(point, number)

    def dot(self, point: Point, number: int) -> None:
        """Draw a circle, a square or a triangle."""
        x, y = point
        if number == 0:
            self._add("circle", "dot0", "", cx=x, cy=y, r=4)
        elif number == 1:
            self.box(x - 3.5, y - 3.5, 7, 7, "dot1")
        else:
            path = f"M{x:.1f} {y - 5:.1f}l5 8h-10z"
            self._parts.append(f'<path class="dot2" d="{path}"/>')

    def write(self, path: Path) -> None:
        path.write_text("\n".join([*self._parts, "</svg>\n"]))

    def _add(self, name: str, kind: str, inner: str, **numbers: float) -> None:
        words = [f'{key}="{round(value, 1):g}"' for key, value in numbers.items()]
        words = [f'class="{kind}"', *words] if kind else words
        self._parts.append(f"<{name} {' '.join(words)}>{inner}</{name}>")
