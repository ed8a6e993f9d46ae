"""The logger `gunicorn.access`, with records that uvicorn's formatters can read, too.

In gunicorn's record, `args` is a mapping of atoms; in uvicorn's, a tuple. Code that is
written for one fails on the other at every request, with a traceback and no line:
`uvicorn.logging.AccessFormatter`, or a filter with `record.args[2]`.

The rule of this room: each request gets its line. Code that reads uvicorn's record gets
one, and the log says once what to change. Without such code there is no cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .format import Render
from .gunicorn_objects import arguments_of_access
from .record import AccessRecord, Recorder
from .uvicorn_logger import arguments_of

MISFIT = (
    "A formatter or filter on the logger gunicorn.access reads uvicorn's record, as "
    "uvicorn.logging.AccessFormatter and record.args[2] do. It works, but move it to "
    "the logger uvicorn.access, or read gunicorn's record: record.args['U'] is the "
    "path, ['m'] the method, ['s'] the status. This is logged once."
)
FAILS = (
    "A handler or filter of the logger gunicorn.access raised an exception; access "
    "lines may be missing. Its record.args is gunicorn's mapping of atoms: ['U'] is "
    "the path, ['m'] the method, ['s'] the status. This is logged once."
)


class _BothShapes(dict[str, Any]):
    """A mapping of atoms; by index and by iteration, uvicorn's five arguments."""

    def in_order(self, record: AccessRecord, misfit: Callable[[], object]) -> Any:
        self._record, self._misfit = record, misfit
        return self

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, (int, slice)):
            self._misfit()
            return arguments_of(self._record)[key]
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[Any]:
        self._misfit()
        return iter(arguments_of(self._record))


def through_access_log(logger: Any, render: Render | None = None) -> Recorder:
    """Return a recorder that does what gunicorn's own `access()` does.

    Args:
        logger: gunicorn's.
        render: Makes the line, instead of its `access_log_format`.

    """
    atoms_class = type("Atoms", (_BothShapes, logger.atoms_wrapper_class), {})
    message = logger.cfg.access_log_format if render is None else "%(line)s"
    misfit, fails = _once(logger.warning, MISFIT), _once(logger.exception, FAILS)

    def record(record: AccessRecord) -> None:
        if not logger.access_log.hasHandlers():
            return
        try:
            atoms = atoms_class(logger.atoms(*arguments_of_access(record)))
            if render is not None:
                atoms["line"] = render(record)
            logger.access_log.info(message, atoms.in_order(record, misfit))
        except Exception:  # noqa: BLE001  from a filter or a handler of the user's
            fails()

    return record


def _once(say: Callable[..., object], words: str) -> Callable[[], None]:
    said = False

    def once() -> None:
        nonlocal said
        if not said:
            said = True
            say(words)

    return once
