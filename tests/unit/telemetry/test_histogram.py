from __future__ import annotations

import pytest

from proxy.telemetry.histogram import Histogram


def test_a_value_on_a_bound_belongs_to_that_bound() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.cumulative() == [2, 4, 5]
    assert histogram.count == 5
    assert histogram.total == 14.0
    assert histogram.mean == 2.8


def test_values_may_come_in_any_order_and_repeat() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (9.0, 9.0, 1.5, 1.5, 1.0, 1.0, -3.0, 2.0, 2.5, 0.0, 0.0):
        histogram.observe(value)
    assert histogram.counts == [5, 3, 3]


def test_an_empty_histogram_has_zero_for_everything() -> None:
    histogram = Histogram((1.0,))
    assert (histogram.count, histogram.mean, histogram.quantile(0.5)) == (0, 0.0, 0.0)


def test_absorbing_adds_counts_and_sums() -> None:
    mine, theirs = Histogram((1.0, 2.0)), Histogram((1.0, 2.0))
    mine.observe(0.5)
    theirs.observe(1.5)
    theirs.observe(7.0)
    mine.absorb(theirs)
    assert mine.counts == [1, 1, 1]
    assert mine.total == 9.0


def test_histograms_with_other_bounds_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Histogram((1.0, 2.0)).absorb(Histogram((1.0,)))


def test_a_quantile_is_interpolated_within_its_bucket() -> None:
    histogram = Histogram((10.0, 20.0, 40.0))
    for value in (5.0, 15.0, 15.0, 30.0):
        histogram.observe(value)
    assert histogram.quantile(0.25) == 10.0
    assert histogram.quantile(0.5) == 15.0
    assert histogram.quantile(0.75) == 20.0
    assert histogram.quantile(0.875) == 30.0
    assert histogram.quantile(1.0) == 40.0


def test_a_quantile_skips_empty_buckets() -> None:
    histogram = Histogram((10.0, 20.0, 40.0))
    histogram.observe(30.0)
    assert histogram.quantile(0.5) == 30.0
    assert histogram.quantile(0.001) == pytest.approx(20.02)


def test_a_quantile_beyond_the_last_bound_is_the_last_bound() -> None:
    histogram = Histogram((10.0,))
    histogram.observe(99.0)
    assert histogram.quantile(0.5) == 10.0
