"""The option ``env_file``: variables that the app reads while it is imported.

Each worker reads the file before it imports the app, as ``uvicorn --env-file`` does. So
a reload uses a changed file. A variable that is already set keeps its value.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .options import Options
from .sources import OptionError


def read(options: Options) -> None:
    """Set the variables of the file, if the option names one.

    Raises :class:`OptionError` if python-dotenv is not installed.
    """
    if options.env_file is None:
        return
    if missing := list(needed(options)):
        raise OptionError(*missing)
    from dotenv import load_dotenv  # noqa: PLC0415  not a dependency

    load_dotenv(dotenv_path=options.env_file)


def needed(options: Options) -> Iterator[str]:
    """Yield a sentence if the package that reads the file is not installed."""
    if options.env_file is None:
        return
    try:
        import dotenv  # noqa: F401, PLC0415  not a dependency
    except ImportError:
        yield (
            f"env_file {options.env_file!r} needs the package python-dotenv, which is "
            "not installed: pip install python-dotenv."
        )


def unread(cfg: Any, options: Options) -> Iterator[str]:
    """Yield a sentence if the file does not exist, or is read too late for the app.

    *cfg*: gunicorn's ``Config``.
    """
    if options.env_file is None:
        return
    if not Path(options.env_file).exists():
        yield f"env_file {options.env_file!r} does not exist, and sets nothing."
    if cfg.preload_app:
        yield (
            "env_file is read by each worker, after preload_app has imported the app: "
            "use gunicorn's --env for variables that the app reads at import."
        )
