"""``python -m uvworker COMMAND``: check a configuration, or ask a running service.

One row for each command: the module whose ``run`` it calls, and what it does.
"""

from __future__ import annotations

import sys
from importlib import import_module

COMMANDS = {
    "check": ("check_command", "print what a configuration does, and start nothing"),
    "reload": ("operations.reload", "reload a service and wait for the outcome"),
    "stacks": ("operations.stacks", "print what the threads and tasks of workers do"),
    "status": ("operations.status", "print the state of a running service"),
    "top": ("operations.top", "show the state of a running service, live"),
}


def main(arguments: list[str]) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: the command line after ``python -m uvworker``.

    """
    name, *rest = arguments or [""]
    if name not in COMMANDS:
        lines = (f"  {name:8}{what}\n" for name, (_, what) in COMMANDS.items())
        sys.stderr.write("usage: python -m uvworker COMMAND\n\n" + "".join(lines))
        return 2
    run = import_module(f".{COMMANDS[name][0]}", __package__).run
    return int(run(rest))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
