"""What a subclass of uvicorn's worker overrides, and which overrides have no effect.

Read from the class, before anything runs, so that the arbiter and the check can report
it. The names in the code of an override show whether it calls its parent.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ..own_names import names_in, owner_of, reserved, subclasses

# Methods of gunicorn's worker and uvicorn's server that uvicorn's worker never called.
NEVER_CALLED: Mapping[str, str] = MappingProxyType(
    {
        "handle_quit": "use gunicorn's hook worker_int",
        "handle_abort": "use gunicorn's hook worker_abort",
        "handle_winch": "a worker ignores WINCH",
        "handle_error": "the app's own exception handlers see its errors",
        "SIGNALS": "override init_signals for handlers of your own",
        # Of uvicorn's server, which is another object.
        "install_signal_handlers": "override init_signals",
        "startup": "use gunicorn's hook post_worker_init, or the app's lifespan",
        "shutdown": "use gunicorn's hook worker_exit, or the app's lifespan",
        "main_loop": "override callback_notify, which is called once a beat",
        "on_tick": "override callback_notify, which is called once a beat",
    }
)

OWN_SERVER = (
    "runs a server of its own, as with uvicorn's worker. Without effect are: the "
    "hand-over of a reload, the drain of idle connections, the even spread of "
    "connections, limits and deadlines of requests, access_log_format, statsd, "
    "pre_request and post_request, the renewal of certificates, max_rss and "
    "max_lifetime. To have them, call super()._serve()."
)


def lost(cls: type) -> Iterator[str]:
    """Yield a sentence for each override that is never called or disables something."""
    for name, instead in NEVER_CALLED.items():
        owner = owner_of(cls, name)
        if owner is not None and not _is_used(cls, name):
            yield f"{owner.__qualname__}.{name} is never called: {instead}."
    if (owner := own_server(cls)) is not None:
        yield f"{owner.__qualname__} {OWN_SERVER}"


def hidden_config(cls: type) -> Iterator[str]:
    """Yield a sentence if an attribute ``config`` of the class is never used."""
    owner = owner_of(cls, "config")
    if owner is None:
        return
    value = vars(owner)["config"]
    if not (value is None or hasattr(type(value), "__set__")):
        yield f"{owner.__qualname__}.config is never used: {WRITE}."


def init_problems(cls: type) -> Iterator[str]:
    """Yield a sentence for what keeps ``__init__`` from making the worker."""
    if _ending_init(cls) is not None:
        yield init_not_called(cls)
    config = owner_of(cls, "config")
    if config is not None and _is_read_only(vars(config)["config"]):
        yield f"{config.__qualname__}.config is a property without a setter: {WRITE}."


def _ending_init(cls: type) -> type | None:
    """Return the class whose ``__init__`` calls no other one."""
    for owner in subclasses(cls):
        if "__init__" in vars(owner):
            names = _names(cls, owner, "__init__")
            if "__init__" not in names:
                return owner
            if "super" not in names:  # which one it calls is not known
                return None
    return None


def _is_read_only(value: object) -> bool:
    return isinstance(value, property) and value.fset is None


WRITE = "write to self.config in __init__, or set CONFIG_KWARGS"


def clashing_attributes(worker: object, before: Mapping[str, object]) -> list[str]:
    """Return the names of attributes that a subclass set and the worker needs.

    Args:
        worker: made, but not booted.
        before: its attributes at the end of the ``__init__`` of `UvicornWorker`.

    """
    ours = reserved(type(worker)) & vars(worker).keys() - CHANGING
    return sorted(n for n in ours if vars(worker)[n] is not before.get(n))


# Attributes that the worker itself changes before it boots, and `_server`, in which a
# subclass may keep a server of its own.
CHANGING = frozenset(
    {"_pid", "_mirrored", "_before", "_written", "_made", "_clashes", "_handlers"}
    | {"_server"}
)


def init_not_called(cls: type) -> str:
    """Return what to say of a subclass whose ``__init__`` does not call its parent."""
    owner = _ending_init(cls) or cls
    return (
        f"{owner.__qualname__}.__init__ does not call that of uvworker.UvicornWorker, "
        "so there is no self.config: call super().__init__(*args, **kwargs), and write "
        "to self.config."
    )


def own_server(cls: type) -> type | None:
    """Return the class whose ``_serve`` or ``run`` does not call the worker's."""
    used = functools.partial(_names, cls)
    for owner in subclasses(cls):
        if "_serve" in vars(owner) and "_serve" not in used(owner, "_serve"):
            return owner
        if "run" in vars(owner):
            names = used(owner, "run")
            if "_serve" not in names and not {"super", "run"} <= names:
                return owner
    return None


def _is_used(cls: type, name: str) -> bool:
    """Return whether another method of the subclass uses *name*."""
    return any(
        name in names_in(value)
        for owner in subclasses(cls)
        for method, value in vars(owner).items()
        if method != name
    )


def _names(cls: type, owner: type, start: str) -> set[str]:
    """Return the names that the methods which *owner*'s *start* calls use, and it."""
    methods = {
        name: value
        for each in reversed(list(subclasses(cls)))
        for name, value in vars(each).items()
    }
    methods[start] = vars(owner)[start]
    names: set[str] = set()
    ahead = {start}
    while ahead:
        found = names_in(methods.pop(ahead.pop(), None))
        names |= found
        ahead |= found & methods.keys()
    return names
