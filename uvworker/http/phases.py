"""The phases in which a connection is read.

`reading` goes through them; only SHUT is set by `protocol`. Which may follow which::

    FRESH  nothing has arrived       -> HEAD, DEAF
    IDLE   between two requests      -> HEAD, DEAF
    HEAD   a head is coming          -> BODY, DEAF
    BODY   a body may be coming      -> IDLE, DONE, DEAF
    DONE   the last request is read  -> DEAF
    DEAF   what arrives is dropped
    SHUT   the client has sent its end
"""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """How far the reading of a connection is."""

    FRESH = enum.auto()
    IDLE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    DONE = enum.auto()
    DEAF = enum.auto()
    SHUT = enum.auto()


# Globals: an attribute of an Enum costs a descriptor call on Python 3.10.
FRESH, IDLE, HEAD, BODY, DONE, DEAF, SHUT = Phase
