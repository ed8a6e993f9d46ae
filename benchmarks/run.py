"""The comparison with peers, in one run: ``python benchmarks/run.py``, ``make bench``.

The parts run one after the other, and after each the figures so far are written. They
are `benchmarks.json`, tables in `benchmarks.md` and `pictures/`, all in one directory:
``docs``, or ``build/benchmarks`` for a quick run. A server that fails costs its own
figure, is named at the end, and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pictures
import report
from deployment import deploy
from growth import grow
from handover import hand_over
from memory import allow_files, memory
from servers import PEERS
from stage import QUICK, WHOLE, Run, limit
from tails import tails
from works import WORKS, compare_all

ROOT = Path(__file__).parent.parent

PARTS: dict[str, Callable[[Run], Any]] = {
    "works": compare_all,
    "tails": tails,
    "growth": grow,
    "memory": memory,
    "deployment": deploy,
    "handover": hand_over,
}


def main() -> None:
    arguments = _arguments()
    if not arguments.draw:
        limit()
        faults = measure(arguments)
    draw(arguments.directory)
    if not arguments.draw and faults:
        sys.exit("\n".join(["Without a figure:", *faults]))


def measure(arguments: argparse.Namespace) -> list[str]:
    """Run the parts, write their figures, and return what went wrong."""
    scale = QUICK if arguments.quick else WHOLE
    run = Run(arguments.servers, arguments.works, scale)
    allow_files(scale.connections)
    results: dict[str, Any] = {
        "about": {**report.machine(), **asdict(scale)},
        "faults": run.faults,
    }
    for name in arguments.parts:
        with run.attempt(name):
            results[name] = PARTS[name](run)
        _figures(arguments.directory).write_text(json.dumps(results, indent=1) + "\n")
    run.say("done")
    return run.faults


def draw(directory: Path) -> None:
    """Write the tables and the pictures of the figures that are there."""
    results = json.loads(_figures(directory).read_text())
    pictures.draw(results, directory / "pictures")
    tables = report.tables(results)
    print(tables)
    report.replace(directory / "benchmarks.md", tables)


def _figures(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory / "benchmarks.json"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="rough, in six minutes")
    parser.add_argument("--servers", nargs="+", choices=PEERS, default=[*PEERS])
    parser.add_argument("--works", nargs="*", choices=WORKS, default=[*WORKS])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    parser.add_argument("--draw", action="store_true", help="of the figures there are")
    parser.add_argument("--directory", type=Path, help="where all of it goes")
    arguments = parser.parse_args()
    if arguments.directory is None:
        quick = arguments.quick
        arguments.directory = ROOT / ("build/benchmarks" if quick else "docs")
    return arguments


if __name__ == "__main__":
    main()
