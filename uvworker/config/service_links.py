"""Environment variables that Kubernetes sets for a Service, and that look like options.

Every container gets variables with the name and port of each Service of its namespace
(``enableServiceLinks``). Those of a Service named ``uvworker``, ``uvworker-blue`` or
``uvicorn`` have the prefix of options. The rule: name *and* value must match, so that a
misspelt option with a similar name is still reported.
"""

from __future__ import annotations

import re

# The end of the variable's name, after the Service's name, and the whole value.
_SHAPES = [
    (re.compile(name + "$"), re.compile(value, re.IGNORECASE))
    for name, value in {
        r"_SERVICE_HOST": r"\S+",
        r"_SERVICE_PORT(_[A-Z0-9_]+)?": r"\d+",  # or _SERVICE_PORT_HTTP
        r"_PORT(_\d+_[A-Z]+)?": r"[a-z]+://\S+",  # or _PORT_80_TCP
        r"_PORT_\d+_[A-Z]+_PROTO": r"[a-z]+",
        r"_PORT_\d+_[A-Z]+_PORT": r"\d+",
        r"_PORT_\d+_[A-Z]+_ADDR": r"\S+",
    }.items()
]


def is_service_link(variable: str, value: str) -> bool:
    """Return whether Kubernetes, not a person, has set *variable*."""
    return any(
        name.search(variable) and shape.fullmatch(value) for name, shape in _SHAPES
    )
