"""Totals that outlive the workers that counted."""

from __future__ import annotations

from uvworker.shared_memory.ledger import Ledger


def test_a_successor_goes_on_where_its_predecessor_ended() -> None:
    ledger = Ledger(slots=3, words=2)
    first = ledger.open(0)
    first.publish([3, 0])
    first.publish([5, 1])
    second = ledger.open(0)  # the first one was killed
    assert ledger.rows(1) == [[5, 1]]
    second.publish([2, 0])
    second.publish([2, 4])
    assert ledger.rows(1) == [[7, 5]]


def test_each_worker_id_has_a_row() -> None:
    ledger = Ledger(slots=3, words=2)
    assert ledger.rows(0) == []
    ledger.open(0).publish([1, 2])
    ledger.open(1).publish([10, 20])
    assert ledger.rows(2) == [[1, 2], [10, 20]]
