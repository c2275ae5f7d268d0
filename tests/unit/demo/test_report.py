import math

import pytest

from proxy.demo.report import percentile, table


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_percentiles_are_values_that_occurred(share: float, value: int) -> None:
    assert percentile(range(1, 101), share) == value


def test_no_values_have_no_percentile() -> None:
    assert math.isnan(percentile([], 0.5))


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table(("", "p50"), [("direct", "1"), ("x", "1,234.5")]).splitlines() == [
        "            p50",
        "---------------",
        "direct        1",
        "x       1,234.5",
    ]
