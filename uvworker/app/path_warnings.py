"""Warnings of what an app answers, each once for a path."""

from __future__ import annotations

import logging

logger = logging.getLogger("uvicorn.error")

# Paths that are remembered. With ids in paths there can be as many as requests, and the
# first few show where to look.
WARNED_PATHS = 100


class PathWarnings:
    """One warning, which is logged for each of the first paths."""

    def __init__(self, text: str) -> None:
        self._text = f"{text} No further warning for this path."
        self._paths: set[str] = set()

    def warn(self, path: str, *arguments: object) -> None:
        """Log it with *arguments*, unless *path* has had it."""
        if path in self._paths or len(self._paths) == WARNED_PATHS:
            return
        self._paths.add(path)
        logger.warning(self._text, *arguments)
