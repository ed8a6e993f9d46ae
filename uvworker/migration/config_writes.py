"""What a subclass has written to its ``self.config``.

``uvicorn.Config`` is a plain object. Writes are found by a comparison with its earlier
attributes, so that a list to which a subclass appends also counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import uvicorn

# Attributes that uvicorn computes in `load()`, and what to write instead.
DERIVED: Mapping[str, str] = MappingProxyType(
    {
        "encoded_headers": "write self.config.headers",
        "http_protocol_class": "write self.config.http",
        "ws_protocol_class": "write self.config.ws",
        "lifespan_class": "write self.config.lifespan",
        "loaded_app": "wrap the app where it is made",
        "ssl": "use gunicorn's ssl_context hook",
    }
)

# Methods of `uvicorn.Config` that a class of the user's may override, and what to do.
METHODS: Mapping[str, str] = MappingProxyType(
    {
        "load": "wrap the app where it is made",
        "load_app": "wrap the app where it is made",
        "get_loop_factory": "write self.config.loop",
        "setup_event_loop": "write self.config.loop",
        "bind_socket": "use gunicorn's bind",
        "should_reload": "use gunicorn's reload",
    }
)

# The app is gunicorn's, as with uvicorn's worker; uvicorn sets `loaded`.
IGNORED = frozenset({"app", "loaded"})


def snapshot(config: uvicorn.Config) -> dict[str, Any]:
    """Return the attributes of *config*, for a later comparison."""
    return {
        name: value.copy() if isinstance(value, (dict, list)) else value
        for name, value in vars(config).items()
    }


def written(config: uvicorn.Config, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of *config* that differ from those *before*.

    Without those that uvicorn's ``load()`` computes, if it was called.
    """
    changed = {
        name: value
        for name, value in snapshot(config).items()
        if name not in IGNORED and (name not in before or before[name] != value)
    }
    if not config.loaded:
        return changed
    made = set(DERIVED) - ({"ssl"} if changed.get("ssl") else set())
    if config.interface == "asgi2":  # what `load()` sets without an app
        made.add("interface")
    return {name: value for name, value in changed.items() if name not in made}


def overridden(config: object) -> Iterator[str]:
    """Yield a sentence for each method of its class that nothing here calls."""
    for owner in type(config).__mro__:
        if owner is uvicorn.Config:
            return
        for name in METHODS:
            if name in vars(owner):
                yield f"{owner.__qualname__}.{name} is never called: {METHODS[name]}."


def usable(names: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of *names* that uvicorn does not compute."""
    return {name: value for name, value in names.items() if name not in DERIVED}


def unusable(names: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each of *names* that uvicorn computes."""
    for name in DERIVED.keys() & names.keys():
        yield f"self.config.{name} cannot be honoured: {DERIVED[name]}."
