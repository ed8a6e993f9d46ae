"""The figures of the benchmark are in one place, and page and pictures show them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DRAW = [sys.executable, ROOT / "benchmarks/run.py", "--draw", "--directory"]
SVG = "{http://www.w3.org/2000/svg}"


def test_the_page_and_its_pictures_show_the_figures_beside_them(tmp_path: Path) -> None:
    for name in ("benchmarks.json", "benchmarks.md"):
        shutil.copy(DOCS / name, tmp_path)
    subprocess.run([*DRAW, tmp_path], check=True, capture_output=True)
    drawn = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.*")}
    assert len(drawn) == 2 + 7
    for path in drawn:
        assert (tmp_path / path).read_text() == (DOCS / path).read_text(), path


def test_each_picture_can_be_read_without_being_seen() -> None:
    pictures = sorted((DOCS / "pictures").glob("*.svg"))
    assert pictures
    for picture in pictures:
        drawing = ET.parse(picture).getroot()
        title, says = drawing.find(f"{SVG}title"), drawing.find(f"{SVG}desc")
        assert title is not None
        assert title.text
        assert says is not None
        assert says.text
