"""The ring of samples: what it says of the last minutes, and how long it remembers."""

from __future__ import annotations

import pytest

from tests.tools.tallies import alone
from uvworker.access.tally import BOUNDS
from uvworker.operations.trend import PERIOD, SAMPLES, Trend, quantile

START = 10_000.0  # of a clock


def test_the_difference_of_two_samples_is_what_happened_between_them() -> None:
    trend, tally = Trend(), alone()
    tally.count("GET", 200, 9.0, 0, 0)  # before the first sample
    trend.record(START, tally.words.tolist())
    for duration, status in [(0.06, 200)] * 6 + [(2.0, 503)] * 2:
        tally.count("POST", status, duration, 0, 0)
    trend.record(START + PERIOD, tally.words.tolist())
    [point] = trend.points(START + PERIOD + 0.5)
    assert point.ago == pytest.approx(0.5)
    assert point.rate == pytest.approx(8 / PERIOD)
    assert point.errors == pytest.approx(2 / PERIOD)
    assert point.mean == pytest.approx((6 * 0.06 + 2 * 2.0) / 8)
    assert 0.05 < point.p50 <= 0.075
    assert 1 < point.p99 <= 2.5


def test_one_sample_is_taken_in_a_period_whoever_looks() -> None:
    trend = Trend()
    assert trend.lacks(START)
    trend.record(START, alone().words.tolist())
    assert not trend.lacks(START + PERIOD / 2)
    assert trend.lacks(START + PERIOD)


def test_it_remembers_five_minutes_and_no_more() -> None:
    trend = Trend()
    for number in range(2 * SAMPLES):
        trend.record(START + number * PERIOD, alone().words.tolist())
    now = START + (2 * SAMPLES - 1) * PERIOD
    points = trend.points(now)
    assert len(points) == SAMPLES - 1
    assert [points[0].ago, points[-1].ago] == [300 - PERIOD, 0]
    assert trend.points(now + 300) == []


def test_a_time_in_which_nobody_could_take_a_sample_is_one_point() -> None:
    trend, tally = Trend(), alone()
    trend.record(START, tally.words.tolist())
    for _ in range(60):
        tally.count("GET", 200, 0.001, 0, 0)
    trend.record(START + 30, tally.words.tolist())
    [point] = trend.points(START + 30)
    assert point.rate == pytest.approx(2)


@pytest.mark.parametrize(
    ("counts", "share", "seconds"),
    [
        ({}, 0.5, None),
        ({0: 4}, 0.5, BOUNDS[0] / 2),
        ({0: 1, 1: 1}, 0.99, BOUNDS[0] + (BOUNDS[1] - BOUNDS[0]) * 0.98),
        ({len(BOUNDS): 1}, 0.5, BOUNDS[-1]),
        ({0: 99, len(BOUNDS): 1}, 0.99, BOUNDS[0]),
    ],
)
def test_a_quantile_is_what_prometheus_would_estimate(
    counts: dict[int, int], share: float, seconds: float | None
) -> None:
    buckets = [counts.get(index, 0) for index in range(len(BOUNDS) + 1)]
    assert quantile(buckets, share) == (seconds and pytest.approx(seconds))
