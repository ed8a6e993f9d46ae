"""Run the tests, those that compare processes after all others.

``python -m tests [arguments of pytest]``, as tox does. Exits as pytest would, and with
its "no tests were collected" only if neither run finds one.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

# Most tests wait for a process: more of them than cores keep the cores busy. Slow tests
# stand together in their files; an idle process takes some of them over.
PARALLEL = ("-n", "8", "--dist", "worksteal")
RUNS = ("-m", "not alone", *PARALLEL), ("-m", "alone")


def run(arguments: list[str]) -> int:
    found = False
    for selection in RUNS:
        code = subprocess.call([sys.executable, "-m", "pytest", *selection, *arguments])
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            return code
        found |= code == pytest.ExitCode.OK
    return pytest.ExitCode.OK if found else pytest.ExitCode.NO_TESTS_COLLECTED


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
