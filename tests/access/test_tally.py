"""Counts of requests: bounded, whatever is requested."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.tools.tallies import alone
from uvworker.access.tally import BOUNDS, METHODS, SIZE, series

requests = st.tuples(
    st.sampled_from(METHODS) | st.text(max_size=20),
    st.integers(100, 599),
    st.floats(0, 1000),
    st.integers(0, 1000),
    st.integers(0, 1000),
)


@given(st.lists(requests))
def test_every_request_is_in_one_bucket_of_one_series(
    asked: list[tuple[str, int, float, int, int]],
) -> None:
    tally = alone()
    for request in asked:
        tally.count(*request)
    found = list(series(tally.words.tolist()))
    assert sum(each.requests for each in found) == len(asked)
    assert len(tally.words) == SIZE
    for each in found:
        name = {m: m for m in METHODS}.get
        own = [r for r in asked if name(r[0], "_OTHER") == each.method]
        own = [r for r in own if f"{r[1] // 100}xx" == each.status]
        assert each.requests == len(own)
        assert abs(each.seconds - sum(r[2] for r in own)) < 1e-5 * (len(own) + 1)
        assert each.received == sum(r[3] for r in own)
        assert each.sent == sum(r[4] for r in own)


def test_a_bound_is_in_its_own_bucket() -> None:
    for index, bound in enumerate(BOUNDS):
        tally = alone()
        tally.count("GET", 200, bound, 0, 0)
        [found] = series(tally.words.tolist())
        assert found.buckets[index] == 1
