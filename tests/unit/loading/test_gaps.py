"""Gap histograms: fading, quantiles, hazards, windows."""

import pytest

from proxy.loading.gaps import GapHistogram, Window


def filled(*gaps: float, times: int = 1) -> GapHistogram:
    histogram = GapHistogram()
    for _ in range(times):
        for gap in gaps:
            histogram.add(gap)
    return histogram


def test_counts_fade_by_half_a_per_cent() -> None:
    assert filled(5.0).count() == 1.0
    assert filled(5.0, times=2).count() == pytest.approx(1.995)
    assert filled(5.0, times=3000).count() == pytest.approx(200, rel=0.01)


def test_counts_only_gaps_longer_than_an_age() -> None:
    histogram = filled(5.0, 500.0)
    assert histogram.count(100.0) == pytest.approx(1.0)
    assert histogram.count(1000.0) == 0


def test_rescaling_changes_no_answer() -> None:
    few, many = filled(10.0, 20.0, times=2000), filled(10.0, 20.0, times=2700)
    assert many.count() == pytest.approx(few.count(), rel=1e-3)
    assert many.quantile(0.5) == pytest.approx(few.quantile(0.5), rel=1e-2)


def test_quantiles_are_within_a_bin() -> None:
    histogram = filled(*range(10, 1000, 10))
    assert histogram.quantile(0.5) == pytest.approx(500, rel=0.2)
    assert histogram.quantile(0.99) == pytest.approx(980, rel=0.2)
    assert GapHistogram().quantile(0.5) == 0.0


def test_gaps_below_a_second_and_beyond_four_days_have_a_bin() -> None:
    histogram = filled(0.0, 0.5, 1e9)
    assert histogram.quantile(0.1) < 1.0
    assert histogram.quantile(1.0) > 300_000


def test_the_hazard_is_the_share_that_ends_soon() -> None:
    histogram = filled(100.0, 1000.0, times=50)
    assert histogram.hazard(10.0, 200.0) == pytest.approx(0.5, abs=0.02)
    assert histogram.hazard(500.0, 1000.0) == pytest.approx(1.0)
    assert histogram.hazard(5000.0, 1000.0) == 0.0


def test_regular_gaps_make_a_window_with_margins() -> None:
    window = filled(300.0, times=20).window(30.0)
    assert window is not None
    assert 0.8 * 300 < window.opens_s < 300 < window.closes_s < 1.3 * 300


def test_seven_gaps_make_no_window() -> None:
    assert filled(300.0, times=7).window(30.0) is None
    assert isinstance(filled(300.0, times=8).window(30.0), Window)


def test_irregular_gaps_make_no_window() -> None:
    assert filled(60.0, 600.0, 6000.0, times=20).window(30.0) is None


def test_bursts_do_not_hide_a_rhythm() -> None:
    burst = filled(*([2.0] * 9), 3600.0, times=20)
    window = burst.window(30.0)
    assert window is not None
    assert window.opens_s < 3600 < window.closes_s


def test_there_is_no_window_after_the_last_gap() -> None:
    assert filled(300.0, times=20).window(400.0) is None
    assert filled(300.0, times=20).window(1e9) is None


def test_reuse_of_a_timer_draws_near() -> None:
    timer = filled(3600.0, times=50)

    def density(age: float) -> float:
        ends, lasts = timer.reuse(age, 7200.0)
        return ends / lasts

    assert density(10.0) < density(1800.0) < density(3400.0)


def test_reuse_beyond_the_span_counts_the_span() -> None:
    ends, lasts = filled(86_400.0, times=50).reuse(10.0, 600.0, prior=0.0)
    assert ends == 0.0
    assert lasts == pytest.approx(600.0 * filled(86_400.0, times=50).count())


def test_without_a_past_what_is_idle_for_long_stays_so() -> None:
    nothing = GapHistogram()

    def density(age: float) -> float:
        ends, lasts = nothing.reuse(age, 3600.0)
        return ends / lasts

    assert density(10.0) > density(600.0) > density(36_000.0) > 0


def test_survives_a_dump() -> None:
    histogram = filled(5.0, 50.0, 500.0, times=30)
    copy = GapHistogram()
    copy.restore(histogram.dump())
    assert copy.quantile(0.9) == pytest.approx(histogram.quantile(0.9), rel=1e-3)
    assert copy.count() == pytest.approx(histogram.count(), rel=1e-3)


@pytest.mark.parametrize("bins", [[1.0], [-1.0] * 93])
def test_refuses_what_is_no_dump(bins: list[float]) -> None:
    with pytest.raises(ValueError, match="gap weights"):
        GapHistogram().restore(bins)
