"""The log's last lines in shared memory, as any process of the service reads them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from uvworker.operations.last_warnings import LINES, LOGGER, SHOWN, LastWarnings


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    logger = logging.getLogger(LOGGER)
    before = list(logger.handlers)
    yield logger
    for handler in set(logger.handlers) - set(before):
        logger.removeHandler(handler)


def texts(kept: LastWarnings, workers: int = 4) -> list[str]:
    return [line.text for line in kept.read(workers)]


def test_a_line_says_when_who_and_what(log: logging.Logger) -> None:
    kept = LastWarnings(4)
    kept.keep()
    log.info("nothing to worry about")
    log.warning("%s is %d", "it", 1)
    kept.keep(2)
    try:
        int("no\nsuch thing")
    except ValueError:
        log.exception("Exception in ASGI application\nwith more")
    first, second = kept.read(4)
    assert (first.worker, first.level, first.text) == (None, "WARNING", "it is 1")
    assert (second.worker, second.level) == (2, "ERROR")
    assert second.text == (
        "Exception in ASGI application: ValueError: "
        "invalid literal for int() with base 10: 'no\\nsuch thing'"
    )
    assert second.pid == os.getpid()
    assert second.time >= first.time


def test_each_process_keeps_its_last_lines_only(log: logging.Logger) -> None:
    kept = LastWarnings(4)
    kept.keep(0)
    for number in range(3 * LINES):
        log.warning("%d", number)
    assert texts(kept) == [str(n) for n in range(2 * LINES, 3 * LINES)]
    for worker in range(1, 4):
        kept.keep(worker)
        for number in range(LINES):
            log.warning("%d of %d", number, worker)
    assert len(texts(kept)) == SHOWN


def test_a_line_that_is_repeated_is_kept_once_and_pushes_nothing_out(
    log: logging.Logger,
) -> None:
    kept = LastWarnings(4)
    kept.keep(0)
    log.warning("once")
    for _ in range(3 * LINES):
        log.warning("again")
        log.error("again")
        log.warning("and again")
    lines = kept.read(4)
    said = [(line.level, line.text, line.count) for line in lines]
    assert said == [
        ("WARNING", "once", 1),
        ("WARNING", "again", 3 * LINES),
        ("ERROR", "again", 3 * LINES),
        ("WARNING", "and again", 3 * LINES),
    ]
    kept.keep(1)
    log.warning("again")
    assert kept.read(4)[-1].count == 1


def test_a_successor_goes_on_behind_the_lines_of_the_worker_before_it(
    log: logging.Logger,
) -> None:
    kept = LastWarnings(4)
    kept.keep(1)
    log.error("before")
    kept.keep(2)
    kept.keep(1)
    log.error("after")
    assert texts(kept) == ["before", "after"]
    assert kept.last_error(1, os.getpid()).text == "after"
    assert kept.last_error(1, -1) is None
    assert kept.last_error(2, os.getpid()) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ä" * 1000, "ä" * 232),
        ("half of one: " + "€" * 1000, "half of one: " + "€" * 150),
        ("\udcff", "?"),
        ("", ""),
        ("\0", "\0"),
    ],
    ids=["long", "cut within a character", "surrogate", "empty", "zero"],
)
def test_a_line_has_a_size_whatever_is_logged(
    log: logging.Logger, text: str, shown: str
) -> None:
    kept = LastWarnings(4)
    kept.keep(0)
    # Not through the logger: pytest would keep the line too, which xdist cannot send.
    log.handlers[-1].handle(logging.makeLogRecord({"msg": text, "levelno": 30}))
    assert texts(kept) == [shown]


def test_a_child_that_the_app_forks_writes_nothing(log: logging.Logger) -> None:
    kept = LastWarnings(4)
    kept.keep(0)
    if (child := os.fork()) == 0:
        log.warning("in the child")
        os._exit(0)
    os.waitpid(child, 0)
    assert texts(kept) == []


def test_a_record_that_cannot_be_formatted_hurts_nobody(log: logging.Logger) -> None:
    kept = LastWarnings(4)
    kept.keep(0)
    logging.raiseExceptions, before = False, logging.raiseExceptions
    try:
        log.warning("%d", "no number")
    finally:
        logging.raiseExceptions = before
    assert texts(kept) == []
