"""What the generated pages share: tables."""  # noqa: INP001  # beside scripts

from __future__ import annotations

from collections.abc import Iterable


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table; a cell may hold anything but a line end."""
    lines = (header, ("---",) * len(header), *rows)
    cells = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines)
    return "".join(f"| {line} |\n" for line in cells)
