import pytest

from bench.statistics import Spread, interleaved, ratio, spread


def test_a_spread_is_median_and_extremes() -> None:
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


def test_ratios_are_formed_round_by_round() -> None:
    fast_and_slow_machine = ratio([200.0, 20.0, 2.0], [100.0, 10.0, 1.0])
    assert fast_and_slow_machine == Spread(2.0, 2.0, 2.0)


def test_rounds_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])


def test_rounds_alternate_their_order() -> None:
    assert "".join(interleaved("ABC", 3)) == "ABCCBAABC"
