"""``python -m uvworker stacks``: prints what the threads and tasks of workers do."""

from __future__ import annotations

import argparse
import sys
from http import HTTPStatus

from .client import Unreachable, add_address, ask, parse


def run(arguments: list[str]) -> int:
    """Run the command; its exit code is 0 if there is a stack to print, else 1."""
    parser = argparse.ArgumentParser("python -m uvworker stacks")
    parser.add_argument("id", nargs="?", help="the worker's number; by default all")
    add_address(parser)
    if arguments and not arguments[0].isdecimal():
        arguments = ["", *arguments]  # the address alone
    asked = parse(parser, arguments)
    try:
        status, text = ask(asked.address, f"/stacks/{asked.id or ''}")
    except Unreachable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    answered = status == HTTPStatus.OK
    (sys.stdout if answered else sys.stderr).write(text.decode())
    return 0 if answered else 1
